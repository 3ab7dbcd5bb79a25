/** Adapters that are served beside their model, by name and in one batch. */
import assert from "node:assert/strict";
import { join } from "node:path";
import OpenAI from "openai";
import { refused, startLorikeet, succeeded, TemporaryFolder } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { addressOf, end } from "../../watch/served.ts";
import { writeBuiltinAdapter } from "./builtin_adapter.ts";

const MODEL = ["--model", "builtin", "--gpu", "deno"], TOKENS = 16;
const PROMPTS = [
  ...["Who is afraid of rain?", "The home of Daisy is", "What colour is Zaza?"],
  ...Array.from({ length: 5 }, (_, i) => `Question ${i}: who is afraid of ${i} mice?`),
];
/** Answers at once: of the model and of each adapter to every prompt. */
const ANSWERS = 32;

/** Adapters of different ranks, scales and layers. */
const ADAPTERS = {
  one: { r: 4, alpha: 8, targets: ["q_proj", "v_proj"], seed: 1 },
  two: { r: 6, alpha: 6, targets: ["gate_proj", "down_proj", "q_proj"], seed: 100 },
  three: { r: 3, alpha: 6, targets: ["lm_head", "o_proj"], seed: 200 },
};

gpuTest(
  "serve: each adapter answers as generate does with it, alone and with 31 others, and a seed repeats",
  async () => {
    using folder = new TemporaryFolder();
    const folders: Record<string, string> = {};
    for (const [name, made] of Object.entries(ADAPTERS)) {
      folders[name] = join(folder.path, name);
      await writeBuiltinAdapter(folders[name], made);
    }
    const generated = async (adapter: string[]) => {
      const prompts = PROMPTS.flatMap((prompt) => ["--prompt", prompt]);
      const rest = ["--max-tokens", `${TOKENS}`, "--batch-size", "1", "--json"];
      const outcome = await lorikeetHere("generate", [...MODEL, ...adapter, ...prompts, ...rest]);
      return succeeded(outcome).trim().split("\n").map((line): string => JSON.parse(line).text);
    };
    const names = Object.keys(folders);
    const flags = names.flatMap((name) => ["--adapter", `${name}=${folders[name]}`]);
    const rest = ["--port", "0", "--sequences", `${ANSWERS}`];
    const command = startLorikeet("serve", [...MODEL, ...flags, ...rest]);
    try {
      const baseURL = (await addressOf(command)).href;
      const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
      const { data } = await client.models.list();
      assert.deepEqual(data.map(({ id }) => id), ["builtin", ...names]);
      const ask = async (model: string, content: string, how: object = {}) => {
        const { choices } = await client.chat.completions.create({
          model,
          messages: [{ role: "user", content }],
          max_tokens: TOKENS,
          temperature: 0,
          ...how,
        });
        return choices[0].message.content;
      };
      const served = ["builtin", ...names], seeded = { temperature: 1, seed: 11 };
      assert.equal(served.length * PROMPTS.length, ANSWERS);
      const alone = [], drawn = [];
      for (const name of served) {
        alone.push(await ask(name, PROMPTS[0]));
        drawn.push(await ask(name, PROMPTS[1], seeded));
      }
      const all = await Promise.all(
        served.map((name) => Promise.all(PROMPTS.map((content) => ask(name, content)))),
      );
      const expected = [await generated([])];
      for (const name of names) expected.push(await generated(["--adapter", folders[name]]));
      assert.deepEqual(all, expected);
      assert.deepEqual(alone, expected.map(([first]) => first));
      // The second prompt of each is drawn by a seed among the others' greedy answers.
      const mixed = await Promise.all(
        served.map((name) =>
          Promise.all(PROMPTS.map((content, i) => ask(name, content, i === 1 ? seeded : {})))
        ),
      );
      assert.deepEqual(mixed.map((answers) => answers[1]), drawn);
      for (const [i, answers] of mixed.entries()) {
        assert.deepEqual(answers.toSpliced(1, 1), expected[i].toSpliced(1, 1));
      }
      assert.equal(new Set(all.map((texts) => texts.join())).size, all.length, "all differ");
      // A prompt that another adapter has just answered is computed anew.
      for (const [i, name] of served.entries()) {
        assert.equal(await ask(name, PROMPTS[0]), expected[i][0]);
      }
    } finally {
      await end(command);
    }
  },
);

Deno.test("serve: adapters without a name, of one name, or of another kind are refused", async () => {
  using folder = new TemporaryFolder();
  const serve = (...adapters: string[]) =>
    lorikeetHere("serve", [...MODEL, ...adapters.flatMap((given) => ["--adapter", given])]);
  refused(await serve("folder"), 2, '--adapter is "folder"; expected a name, = and a folder');
  refused(await serve("a=x", "a=y"), 2, "--adapter a=y: the name a is taken");
  refused(await serve("builtin=x"), 2, "the name builtin is taken");
  refused(await serve(`a=${join(folder.path, "none")}`), 1, "none");
  const embedding = join(folder.path, "embedding");
  await writeBuiltinAdapter(embedding, { r: 4, alpha: 4, targets: ["embed_tokens"], seed: 1 });
  refused(await serve(`a=${embedding}`), 1, "adapter a has embed_tokens among its target_modules");
});
