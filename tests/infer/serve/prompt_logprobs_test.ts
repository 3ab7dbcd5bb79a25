/** `echo` with `logprobs`: how likely the model finds a prompt, as evaluation harnesses ask for it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import OpenAI from "openai";
import { startLorikeet, succeeded, TemporaryFolder } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import { addressOf, end } from "../../watch/served.ts";
import { writeBuiltinAdapter } from "./builtin_adapter.ts";

const MODEL = ["--model", "builtin", "--gpu", "deno", "--precision", "fp32"];
const TEXTS = [
  "Daisy is afraid of mice. The home of Rio is a nest.",
  "Who is größer, 鳥鳥鳥 or 😀🙂?",
];

type Logprobs = readonly (number | null)[];

/**
 * Asserts log-probabilities to be the same, but for the order of sums: how many rows a pass computes, what of a prompt was
 * computed before and what else is under way decides which programs a GPU runs.
 */
function assertSameLogprobs(actual: Logprobs, expected: Logprobs): void {
  const told = (all: Logprobs) => all.map((logprob) => logprob ?? NaN);
  assertClose(told(actual), told(expected), { atol: 1e-4, rtol: 1e-5, what: "log-probability" });
}

/** The negative log-likelihood that `score` finds a text to have, in all. */
async function scored(folder: TemporaryFolder, text: string, adapter: string[]): Promise<number> {
  const data = folder.file("text.jsonl", JSON.stringify({ text }));
  const flags = ["--data", data, "--data-format", "text", "--json"];
  const outcome = await lorikeetHere("score", [...MODEL, ...adapter, ...flags]);
  const { nll_per_token, tokens } = JSON.parse(succeeded(outcome));
  return nll_per_token * tokens;
}

gpuTest(
  "serve: a prompt's log-probabilities are those that score finds, in OpenAI's shape",
  async () => {
    using folder = new TemporaryFolder();
    const adapter = join(folder.path, "adapter");
    await writeBuiltinAdapter(adapter, { r: 4, alpha: 8, targets: ["q_proj", "v_proj"], seed: 1 });
    const command = startLorikeet("serve", [
      ...MODEL,
      "--port",
      "0",
      "--sequences",
      "4",
      "--adapter",
      `mine=${adapter}`,
    ]);
    try {
      const { href: baseURL, origin } = await addressOf(command);
      const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
      const tokenize = async (asked: object): Promise<number[]> => {
        const body = JSON.stringify(asked), headers = { "Content-Type": "application/json" };
        const answer = await fetch(new URL("/tokenize", origin), { method: "POST", headers, body });
        return (await answer.json()).tokens;
      };
      const [eos] = await tokenize({ prompt: "</s>" }).then((ids) => ids.slice(-1));
      const prompts = await Promise.all(
        TEXTS.map(async (text) => [...await tokenize({ prompt: text }), eos]),
      );
      for (const [model, flags] of [["builtin", []], ["mine", ["--adapter", adapter]]] as const) {
        // As lm-evaluation-harness asks: ids, one token more than is needed.
        const { choices, usage } = await client.completions.create({
          model,
          prompt: prompts,
          echo: true,
          logprobs: 1,
          max_tokens: 1,
          temperature: 0,
          seed: 1,
        });
        assert.equal(choices.length, prompts.length);
        assert.equal(usage?.prompt_tokens, prompts.flat().length);
        for (const [i, { text, logprobs }] of choices.entries()) {
          const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs ?? assert.fail();
          assert.ok(tokens && token_logprobs && top_logprobs && text_offset);
          const { length } = prompts[i];
          for (const list of [tokens, token_logprobs, top_logprobs, text_offset]) {
            assert.equal(list.length, length + 1);
          }
          assert.deepEqual([token_logprobs[0], top_logprobs[0]], [null, null]);
          assert.equal(tokens.join(""), text);
          assert.ok(text.startsWith(TEXTS[i]), text);
          tokens.forEach((token, t) =>
            assert.equal(text.slice(text_offset[t], text_offset[t] + token.length), token)
          );
          const told = token_logprobs.slice(1, length);
          for (const [t, logprob] of told.entries()) {
            const likely = Object.values(top_logprobs[t + 1]);
            assert.ok(likely.includes(logprob) && Math.max(...likely) >= logprob);
          }
          const sum = -told.reduce((sum, logprob) => sum + logprob, 0);
          const expected = await scored(folder, TEXTS[i], [...flags]);
          assert.ok(
            Math.abs(sum - expected) < 1e-4 * expected,
            `${sum} where score has ${expected}`,
          );
        }
      }
      // The end token is told of where it comes, so that the last row is always the answer's.
      const content = "What does a parakeet eat?";
      const question = await tokenize({ messages: [{ role: "user", content }] });
      const greedy = { model: "builtin", temperature: 0 };
      const answered = await client.completions.create({
        ...greedy,
        prompt: question,
        max_tokens: 40,
      });
      assert.equal(answered.choices[0].finish_reason, "stop");
      const reply = { prompt: answered.choices[0].text.trimEnd(), add_special_tokens: false };
      const whole = [...question, ...await tokenize(reply)];
      const ask = { ...greedy, prompt: whole, echo: true, logprobs: 1, max_tokens: 1 };
      const { choices: [ended], usage: used } = await client.completions.create(ask);
      assert.deepEqual([ended.finish_reason, used?.completion_tokens], ["stop", 0]);
      const rows = ended.logprobs?.token_logprobs ?? [];
      assert.equal(rows.length, whole.length + 1);
      assert.equal(ended.logprobs?.tokens?.join(""), ended.text);
      assert.equal(
        rows.at(-1),
        Math.max(...Object.values(ended.logprobs?.top_logprobs?.at(-1) ?? {})),
      );
      const streamed: (number | null)[] = [];
      for await (
        const { choices: [choice] } of await client.completions.create({ ...ask, stream: true })
      ) {
        streamed.push(...choice.logprobs?.token_logprobs ?? []);
      }
      assertSameLogprobs(streamed, rows);
      // Nothing but the prompt, as text, n times, beside answers that go on; and as a stream.
      const [prompt] = TEXTS, asked = { model: "builtin", prompt, echo: true, logprobs: 2 };
      const endless = { ignore_eos: true, max_tokens: 60 };
      const going = client.completions.create({ model: "builtin", prompt, ...endless });
      const { choices: [one, two] } = await client.completions.create({
        ...asked,
        max_tokens: 0,
        n: 2,
      });
      assert.equal(one.text, prompt);
      assert.equal(one.finish_reason, "length");
      assert.deepEqual([two.index, two.text, two.finish_reason], [1, prompt, "length"]);
      const [once, again] = [one, two].map(({ logprobs }) => logprobs?.token_logprobs ?? []);
      assertSameLogprobs(again, once);
      const placed = [one, two].map(({ logprobs }) => [logprobs?.tokens, logprobs?.text_offset]);
      assert.deepEqual(placed[1], placed[0]);
      assert.deepEqual(two, { ...one, index: 1 });
      assert.equal(one.logprobs?.tokens?.join(""), prompt);
      assert.equal(one.logprobs?.tokens?.length, prompts[0].length - 1);
      const plain = await client.completions.create({
        model: "builtin",
        prompt,
        logprobs: 2,
        max_tokens: 5,
        temperature: 0,
      });
      const stream = await client.completions.create({
        ...asked,
        max_tokens: 5,
        temperature: 0,
        stream: true,
      });
      let text = "";
      const logprobs: (number | null)[] = [], offsets: number[] = [];
      for await (const { choices: [choice] } of stream) {
        text += choice.text;
        logprobs.push(...choice.logprobs?.token_logprobs ?? []);
        offsets.push(...choice.logprobs?.text_offset ?? []);
      }
      const answer = plain.choices[0].logprobs?.token_logprobs ?? [];
      assertSameLogprobs(logprobs.slice(0, -answer.length), once);
      assertSameLogprobs(logprobs.slice(-answer.length), answer);
      assert.ok(text.startsWith(prompt) && text.length > prompt.length);
      assert.equal(offsets[prompts[0].length - 1], prompt.length);
      assert.equal((await going).usage?.completion_tokens, 60);
    } finally {
      await end(command);
    }
  },
);
