/** By what a run knows again what it was made from: contents, wherever they lie. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../../../kernels/errors.ts";
import { readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { openSafetensors } from "../../../model/formats/safetensors.ts";
import type { TokenizedSample } from "../../../model/text/prompt.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { makeTrainConfig } from "../../../train/config/config.ts";
import { type Fingerprints, fingerprints, keepWhole } from "../../../train/states/fingerprints.ts";
import { checkIdentity, weightsNote } from "../../../train/states/resume_rules.ts";
import { TemporaryFolder, TOKENIZER } from "../../cli/cli.ts";
import { fixturePath } from "../../fixtures.ts";
import { fixtureSamples } from "../runs.ts";

const MODEL = fileURLToPath(new URL("../../../examples/builtin/model", import.meta.url));

/** Copies the built-in model. */
function copyModel(to: string): string {
  Deno.mkdirSync(to);
  for (const { name } of Deno.readDirSync(MODEL)) {
    Deno.copyFileSync(join(MODEL, name), join(to, name));
  }
  return to;
}

/** Changes one byte of a tensor. */
function flip(model: string, tensor: string, byte: number): void {
  const path = join(model, "model.safetensors"), file = openSafetensors(path);
  const { begin, end } = file.tensors.get(tensor) ?? assert.fail(), at = file.head.length + begin;
  file.close();
  assert.ok(byte < end - begin);
  const bytes = readFileSync(path);
  bytes[at + byte] ^= 1;
  Deno.writeFileSync(path, bytes);
}

interface Inputs {
  model?: string;
  tokenizer?: string;
  adapter?: string;
  samples?: readonly TokenizedSample[];
  allBytes?: boolean;
}

async function printsOf(inputs: Inputs = {}): Promise<Fingerprints> {
  const { model = MODEL, tokenizer, adapter, samples = fixtureSamples() } = inputs;
  const source = openModel(model);
  try {
    return JSON.parse(JSON.stringify(
      await fingerprints({
        source,
        tokenizer: await loadTokenizer(tokenizer ?? source.tokenizerPath ?? assert.fail()),
        adapter: adapter === undefined ? undefined : readAdapter(adapter),
        data: [{ samples: samples.map((sample) => [sample]) }],
        allBytes: inputs.allBytes ?? false,
      }),
    ));
  } finally {
    source.weights?.close();
  }
}

/** Compares what a run began with and what it is to go on with. */
function check(was: Fingerprints, is: Fingerprints, ...allow_change: string[]): void {
  const config = makeTrainConfig({ allow_change });
  checkIdentity(
    { config: { ...config }, total: 1, fingerprints: was },
    { config, total: 1, fingerprints: is },
    "state.json",
  );
}

/** Asserts that a difference is named, and goes through where its key is allowed to change. */
function differs(was: Fingerprints, is: Fingerprints, key: string, pattern: RegExp): void {
  assert.throws(() => check(was, is), (error) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, pattern);
    assert.ok(error.message.endsWith(`, or --allow-change ${key}`), error.message);
    return true;
  });
  check(was, is, key);
}

const SUM = "…[0-9a-f]{12}";

Deno.test("fingerprints: a copied or moved model is the same, and a changed one is named", async () => {
  using folder = new TemporaryFolder();
  const was = await printsOf(), copy = copyModel(folder.file("copy"));
  const weights = join(copy, "model.safetensors");
  assert.equal(weightsNote(was, await printsOf()), undefined);
  check(was, await printsOf({ model: "builtin" }));
  Deno.utimeSync(weights, 1e9, 1e9);
  const copied = await printsOf({ model: `${copy}/` });
  check(was, copied);
  assert.match(
    weightsNote(was, copied) ?? "",
    /not those that the run began with \(model\.safetensors, 2103552 bytes, of 2001-09-09T01:46:40/,
  );

  const config = JSON.parse(Deno.readTextFileSync(join(copy, "config.json")));
  const changes: [string, unknown, RegExp][] = [
    ["rope_theta", 500, /with the model's rope_theta 10000, not 500;/],
    ["rms_norm_eps", 1e-3, /with the model's rms_norm_eps 0\.00001, not 0\.001;/],
  ];
  for (const [key, value, pattern] of changes) {
    Deno.writeTextFileSync(join(copy, "config.json"), JSON.stringify({ ...config, [key]: value }));
    differs(was, await printsOf({ model: copy }), "model", pattern);
  }
  Deno.writeTextFileSync(join(copy, "config.json"), JSON.stringify(config));

  const tensor = "model.layers.1.mlp.down_proj.weight";
  flip(copy, tensor, 1);
  const named = new RegExp(`with model weights "${tensor}" F16 \\[128,\\d+\\] ${SUM}, not F16`);
  differs(was, await printsOf({ model: copy }), "model", named);
  flip(copy, tensor, 1);
  check(was, await printsOf({ model: copy }));
});

Deno.test("fingerprints: a byte that no sample has is found where all are read", async () => {
  using folder = new TemporaryFolder();
  const copy = copyModel(folder.file("copy"));
  const was = await printsOf({ allBytes: true });
  flip(copy, "model.layers.1.mlp.down_proj.weight", 5000);
  const is = await printsOf({ model: copy }), all = await printsOf({ model: copy, allBytes: true });
  check(was, is);
  assert.match(weightsNote(was, is) ?? "", /--verify-weights compares all of them\.$/);
  const pattern = new RegExp(`with model weights ${SUM}, not ${SUM};`);
  differs(was, all, "model", pattern);
  // A part of the run in which nobody asked does not lose what it began with.
  const kept = keepWhole(is, was);
  assert.equal(kept.model.weights?.whole, was.model.weights?.whole);
  differs(kept, all, "model", pattern);
  assert.equal(keepWhole(all, was), all);
  check(is, all);
  assert.match(weightsNote(is, all) ?? "", /^The run began without --verify-weights: all bytes/);
  assert.equal(weightsNote(was, await printsOf({ allBytes: true })), undefined);
});

Deno.test("fingerprints: of quantised weights, and of none", async () => {
  for (const model of ["quantized/nf4", "quantized/int8", "gguf/sentencepiece.gguf"]) {
    const names = { model: fixturePath(model), tokenizer: TOKENIZER };
    const [was, is] = [await printsOf(names), await printsOf({ ...names, allBytes: true })];
    check(was, is);
    const { weights } = is.model;
    assert.ok(weights && weights.files.length > 0);
    const prints = Object.values(weights.tensors);
    assert.ok(new Set(prints).size > prints.length / 2 && weights.whole);
  }
  const random = { source: openModel("random:tiny"), tokenizer: await loadTokenizer(TOKENIZER) };
  const tiny = await fingerprints({ ...random, data: [{ samples: [] }], allBytes: true });
  assert.equal(tiny.model.weights, null);
  const { config } = tiny.model, changed = { config, weights: (await printsOf()).model.weights };
  differs(
    tiny,
    { ...tiny, model: changed },
    "model",
    /with model weights from random, not from files;/,
  );
});

Deno.test("fingerprints: other samples, another vocabulary or adapter are named", async () => {
  const was = await printsOf(), samples = fixtureSamples();
  const changed = samples.map((sample) => ({ ...sample, ids: sample.ids.slice() }));
  changed[3].ids[2]++;
  const [begin, end] = samples[1].targets[0];
  const masks = [[[begin + 1, end]], [[begin, end - 1]], [[begin, begin + 1], [begin + 2, end]]];
  const masked = masks.map((targets) =>
    samples.with(1, { ...samples[1], targets: targets as [number, number][] })
  );
  for (const others of [changed, ...masked, samples.slice(1), samples.toReversed()]) {
    differs(
      was,
      await printsOf({ samples: others }),
      "data",
      /with data of \d+ samples, \d+ tokens, …/,
    );
  }
  const vocabulary = new RegExp(`with tokenizer vocabulary ${SUM}, not ${SUM};`);
  differs(was, await printsOf({ tokenizer: TOKENIZER }), "tokenizer", vocabulary);

  const adapter = fixturePath("peft/dora"), begun = await printsOf({ adapter });
  check(begun, await printsOf({ adapter }));
  check(begun, await printsOf(), ...[]);
  const other = await printsOf({ adapter: fixturePath("peft/dora_all") });
  differs(begun, other, "adapter", new RegExp(`with adapter contents ${SUM}, not ${SUM};`));
  differs(was, begun, "adapter", new RegExp(`with adapter contents none, not ${SUM};`));
});
