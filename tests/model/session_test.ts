/** Opening a model as a program does: what it answers, in pieces, and what is given back. */
import assert from "node:assert/strict";
import { GREEDY } from "../../model/engine/engine.ts";
import {
  type AnswerOptions,
  type AnswerPiece,
  compilationLine,
  type Lorikeet,
  open,
  openSession,
} from "../../model/session.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { EXACT } from "../../kernels/ops/numerics.ts";
import { present } from "../../kernels/present.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { Llama } from "../../model/transformer/llama.ts";
import { scoreMode } from "../../model/transformer/modes.ts";
import { gpuTest } from "../kernels/harness.ts";

const BUILTIN = { model: "builtin", precision: "fp32", context: 64 } as const;

/** A session for tests that open nothing of their own. */
let opened: Promise<Lorikeet> | undefined;
async function shared(): Promise<Lorikeet> {
  if (opened !== undefined) return await opened;
  const { gpu } = await (opened = open(BUILTIN));
  globalThis.addEventListener("unload", () => gpu.close());
  return await opened;
}

/** The text and the ids of each answer. */
async function collect(
  pieces: AsyncIterable<AnswerPiece>,
): Promise<{ text: string; ids: number[] }[]> {
  const answers: { text: string; ids: number[] }[] = [];
  for await (const { index, text, id } of pieces) {
    const answer = answers[index] ??= { text: "", ids: [] };
    answer.text += text;
    if (id !== undefined) answer.ids.push(id);
  }
  return answers;
}

gpuTest("open: several prompts, more than fit at once, are answered as each alone", async () => {
  await using lorikeet = await open({ ...BUILTIN, sequences: 2 });
  const prompts = ["Rio is a lorikeet.", "Luna is an owl.", "Rio"];
  const options = { maxTokens: 12 };
  const alone = [];
  for (const prompt of prompts) alone.push(...await collect(lorikeet.generate(prompt, options)));
  assert.ok(alone.every(({ text }) => text.trim() !== ""));
  assert.deepEqual(await collect(lorikeet.generate(prompts, options)), alone);
  for (const { text, ids } of alone) {
    assert.equal(lorikeet.tokenizer.decode(ids).trim(), text.trim());
  }
});

gpuTest("open: an answer ends before a stop text, and where its loop is left", async () => {
  const lorikeet = await shared();
  const [{ text, ids }] = await collect(lorikeet.generate("Rio is a lorikeet.", { maxTokens: 12 }));
  const words = text.trim().split(" "), stop = words[words.length - 1];
  const [cut] = await collect(
    lorikeet.generate("Rio is a lorikeet.", { maxTokens: 12, stopTexts: [stop] }),
  );
  assert.equal(cut.text, text.slice(0, text.indexOf(stop)));
  const first: number[] = [];
  for await (const { id } of lorikeet.generate("Rio is a lorikeet.", { maxTokens: 12 })) {
    if (id !== undefined) first.push(id);
    if (first.length === 3) break;
  }
  assert.deepEqual(first, ids.slice(0, 3));
  const [again] = await collect(lorikeet.generate("Rio is a lorikeet.", { maxTokens: 12 }));
  assert.deepEqual(again.ids, ids);
});

gpuTest("open: sampling, without a cache as with it", async () => {
  const sampling = { ...GREEDY, temperature: 1, seed: 3, repetition_penalty: 1.1 };
  const made: unknown[] = [];
  for (const cache of ["f32", false] as const) {
    await using lorikeet = await open({ ...BUILTIN, cache, penalized: true });
    made.push(await collect(lorikeet.generate("Rio", { maxTokens: 8, sampling })));
  }
  assert.deepEqual(made[1], made[0]);
});

gpuTest("open: what is wrong is told, and the GPU is given back", async () => {
  await assert.rejects(open({ model: "no/such" }), /no\/such/);
  await assert.rejects(open({ ...BUILTIN, context: 0 }), /context is 0; expected a whole number/);
  await assert.rejects(open({ ...BUILTIN, sequences: 1.5 }), /sequences is 1.5; expected a whole/);
  await assert.rejects(open({ ...BUILTIN, cache: "f64" as "f32" }), /cache is f64; expected f16/);
  const gpuOptions = { limits: "most" as "default" };
  await assert.rejects(open({ ...BUILTIN, gpu: gpuOptions }), /limits is "most"; expected adapter/);
  const lorikeet = await open(BUILTIN), { gpu } = lorikeet;
  await lorikeet[Symbol.asyncDispose]();
  const info = await gpu.device.lost;
  assert.equal(info.reason, "destroyed");
  await assert.rejects(collect(lorikeet.generate("Rio")), /the GPU is used after it was closed/);
});

gpuTest(
  "open: prompts and settings out of their ranges are refused, and nothing waits for them",
  async () => {
    const lorikeet = await shared();
    const prompts = [[1, 5], []];
    const refused = (options: AnswerOptions, message: RegExp, ids: number[][] = [[1, 5]]) =>
      assert.rejects(collect(lorikeet.generate(ids, options)), message);
    await refused({}, /a prompt of 0 tokens does not fit the context; expected 1 to 64/, prompts);
    assert.deepEqual(await lorikeet.engine.step(lorikeet.gpu), []);
    await refused({}, /token 2 of the prompt is -5; expected a whole number from 0 to/, [[1, -5]]);
    await refused({ maxTokens: NaN }, /maxTokens is NaN; expected a whole number of at least 0/);
    const wrong = { temperature: NaN, top_k: -2, top_p: 5, min_p: -1, seed: -1 };
    for (const [name, value] of Object.entries(wrong)) {
      const sampling = { ...GREEDY, [name]: value };
      await refused({ sampling }, RegExp(`sampling.${name} is ${value}; expected`));
    }
    const sampling = { ...GREEDY, repetition_penalty: 1.2 };
    await refused({ sampling }, /repetition_penalty is 1.2, for which this engine has no memory/);
  },
);

gpuTest(
  "open: two loops at once, of more prompts than there is room for, lose no token",
  async () => {
    const lorikeet = await shared();
    const prompts = ["Rio is a lorikeet.", "Luna is an owl.", "Rio"], options = { maxTokens: 8 };
    const answer = (prompt: string) => collect(lorikeet.generate(prompt, options));
    const alone = [];
    for (const prompt of prompts) alone.push(await answer(prompt));
    assert.deepEqual(await Promise.all(prompts.map(answer)), alone);
  },
);

gpuTest("open: a quantised base answers, from less memory", async () => {
  await using dense = await open({ ...BUILTIN, precision: "mixed" });
  const bytes = ({ model }: Lorikeet) =>
    model.weights.reduce((sum, { operand }) => sum + operand.bytes, 0);
  for (const quantization of ["int8", "nf4"] as const) {
    await using lorikeet = await open({ ...BUILTIN, precision: "mixed", quantization });
    assert.ok(bytes(lorikeet) < bytes(dense), quantization);
    const [{ ids }] = await collect(lorikeet.generate("Rio is a lorikeet.", { maxTokens: 8 }));
    assert.equal(ids.length, 8);
  }
  const refused = (wrong: object, message: RegExp) =>
    assert.rejects(open({ ...BUILTIN, quantization: "nf4", ...wrong }), message);
  await refused({ quantization: "nf8" }, /quantization is nf8; expected none, int8, nf4/);
  await refused({ double_quantization: "no" }, /double_quantization is no; expected true, false/);
  for (const quantization_skip of ["k_proj", null, [3], [""]]) {
    await refused({ quantization_skip }, /quantization_skip is \S+; expected a list of names/);
  }
});

gpuTest("a session compiles while weights are loaded, and says how long it took", async () => {
  const source = openModel("random:tiny"), { config } = source;
  const make = (memory: Memory) => ({
    model: new Llama(memory, {
      config,
      numerics: EXACT,
      mode: scoreMode({ maxTokens: 8, maxTargets: 8 }),
    }),
  });
  const told: string[] = [];
  const options = { gpu: {}, seed: 1, advice: "", allocated: () => void told.push("allocated") };
  const slow = async (programs: number) => {
    told.push("compile");
    await new Promise((resolve) => setTimeout(resolve, 300));
    told.push("compiled");
    return programs;
  };
  await using session = await openSession(source, make, {
    ...options,
    compile: (gpu, { model }) => {
      assert.equal(gpu.work.launches, 0, "nothing was loaded");
      assert.equal(model.config.vocab_size, config.vocab_size);
      return slow(7);
    },
  });
  assert.deepEqual(told, ["allocated", "compile", "compiled"]);
  const { programs, seconds, waited } = present(session.compilation, "compilation");
  assert.equal(programs, 7);
  assert.ok(seconds > 0.25 && waited < seconds, `${seconds} s, of these ${waited} after loading`);
  await assert.rejects(
    openSession(source, make, {
      ...options,
      compile: () => slow(0).then(() => Promise.reject(new Error("no WGSL"))),
    }),
    /no WGSL/,
  );
});

Deno.test("what was compiled, in words", () => {
  const line = (seconds: number, waited: number) =>
    compilationLine({ programs: 9, seconds, waited });
  assert.equal(line(0.44, 0.1), "Compiled 9 programs in 0.4 s");
  assert.equal(line(3, 3), "Compiled 9 programs in 3.0 s");
  assert.equal(
    line(3.1, 1.1),
    "Compiled 9 programs in 3.1 s, 2.0 s of it while weights were loaded",
  );
});
