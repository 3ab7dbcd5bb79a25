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
const PROMPTS = ["Who is afraid of rain?", "The home of Daisy is", "What colour is Zaza?"];

/** Adapters of different ranks, scales and layers. */
const ADAPTERS = {
  one: { r: 4, alpha: 8, targets: ["q_proj", "v_proj"], seed: 1 },
  two: { r: 6, alpha: 6, targets: ["gate_proj", "down_proj", "q_proj"], seed: 100 },
  three: { r: 3, alpha: 6, targets: ["lm_head", "o_proj"], seed: 200 },
};

gpuTest(
  "serve: each adapter answers under its name as generate does with it, all at once",
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
    const command = startLorikeet("serve", [...MODEL, ...flags, "--port", "0"]);
    try {
      const baseURL = (await addressOf(command)).href;
      const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
      const { data } = await client.models.list();
      assert.deepEqual(data.map(({ id }) => id), ["builtin", ...names]);
      const ask = async (model: string, content: string) => {
        const { choices } = await client.chat.completions.create({
          model,
          messages: [{ role: "user", content }],
          max_tokens: TOKENS,
          temperature: 0,
        });
        return choices[0].message.content;
      };
      const all = await Promise.all(
        ["builtin", ...names].map((name) =>
          Promise.all(PROMPTS.map((content) => ask(name, content)))
        ),
      );
      const expected = [await generated([])];
      for (const name of names) expected.push(await generated(["--adapter", folders[name]]));
      assert.deepEqual(all, expected);
      assert.equal(new Set(all.map((texts) => texts.join())).size, all.length, "all differ");
      // A prompt that another adapter has just answered is computed anew.
      for (const [i, name] of ["builtin", ...names].entries()) {
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
