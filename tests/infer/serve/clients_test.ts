/** Real clients of a server with the built-in model, in a process of its own. */
import assert from "node:assert/strict";
import { generateText, streamText } from "ai";
import { createOpenAICompatible } from "ai-openai-compatible";
import OpenAI from "openai";
import { lorikeetHere } from "../../cli/here.ts";
import { startLorikeet, succeeded } from "../../cli/cli.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { addressOf } from "../../watch/served.ts";

const MODEL = "builtin", TOKENS = 24;
/** What each of the 32 clients asks. */
const QUESTIONS = Array.from(
  { length: 32 },
  (_, i) => `Question ${i}: who is afraid of ${i} mice?`,
);
const [QUESTION] = QUESTIONS;
const BUILTIN = ["--model", MODEL, "--gpu", "deno"];

/** What OpenAI's API does not know: the model's own end does not count. */
const ENDLESS = { ignore_eos: true };

interface Served {
  command: Deno.ChildProcess;
  client: OpenAI;
  baseURL: string;
}

let server: Promise<Served> | undefined;

/** The server, which the first test starts and the last one ends. */
function served(): Promise<Served> {
  return server ??= (async () => {
    const command = startLorikeet("serve", [...BUILTIN, "--port", "0", "--sequences", "32"]);
    const baseURL = (await addressOf(command)).href;
    return { command, baseURL, client: new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 }) };
  })();
}

const question = (content: string) => ({
  model: MODEL,
  messages: [{ role: "user" as const, content }],
  max_tokens: TOKENS,
});

/** What `generate` answers to questions. */
async function generated(questions: readonly string[]): Promise<string[]> {
  const prompts = questions.flatMap((content) => ["--prompt", content]);
  const rest = ["--max-tokens", `${TOKENS}`, "--batch-size", "1", "--json"];
  const stdout = succeeded(await lorikeetHere("generate", [...BUILTIN, ...prompts, ...rest]));
  return stdout.trim().split("\n").map((line) => JSON.parse(line).text);
}

gpuTest("serve: openai's client finds the model, and chats as generate does", async () => {
  const { client } = await served();
  const models = await client.models.list();
  assert.deepEqual(models.data.map(({ id }) => id), [MODEL]);
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  const { choices: [{ message, finish_reason }], usage } = await client.chat.completions.create({
    ...question(QUESTION),
    temperature: 0,
  });
  const [expected] = await generated([QUESTION]);
  assert.equal(message.content, expected);
  assert.ok(finish_reason === "stop" || finish_reason === "length");
  assert.ok(usage && usage.total_tokens === usage.prompt_tokens + usage.completion_tokens);
});

gpuTest("serve: openai's client streams, with usage at the end", async () => {
  const { client } = await served();
  const whole = await client.chat.completions.create({ ...question(QUESTION), temperature: 0 });
  const stream = await client.chat.completions.create({
    ...question(QUESTION),
    temperature: 0,
    n: 2,
    stream: true,
    stream_options: { include_usage: true },
  });
  const texts = ["", ""], ends: string[] = [];
  let usage: OpenAI.CompletionUsage | null | undefined, last = 0;
  for await (const { choices, usage: told } of stream) {
    last = choices.length;
    usage = told;
    for (const { index, delta, finish_reason } of choices) {
      texts[index] += delta.content ?? "";
      if (finish_reason !== null) ends[index] = finish_reason;
    }
  }
  const [{ message, finish_reason }] = whole.choices;
  assert.deepEqual(texts, [message.content, message.content]);
  assert.deepEqual(ends, [finish_reason, finish_reason]);
  assert.equal(last, 0, "the last part has the usage alone");
  assert.equal(usage?.completion_tokens, 2 * (whole.usage?.completion_tokens ?? NaN));
  assert.equal(usage?.prompt_tokens, whole.usage?.prompt_tokens);
});

gpuTest("serve: openai's client completes texts, with log-probabilities", async () => {
  const { client } = await served();
  const asked = { model: MODEL, temperature: 0, max_tokens: 6 };
  const { choices: [one, two] } = await client.completions.create({
    ...asked,
    prompt: ["The home of", "Daisy is"],
    echo: true,
  });
  assert.match(one.text, /^The home of [^ ]/, "a space follows the prompt");
  assert.match(two.text, /^Daisy is [^ ]/);
  const { choices: [told] } = await client.completions.create({
    ...asked,
    prompt: "The home of",
    logprobs: 3,
  });
  const { tokens = [], token_logprobs = [], top_logprobs = [] } = told.logprobs ?? {};
  assert.equal(tokens.join(""), told.text);
  assert.equal(`The home of ${told.text}`, one.text);
  for (const [i, token] of tokens.entries()) {
    const likely = top_logprobs[i] ?? {};
    assert.equal(Object.keys(likely).length, 3);
    assert.equal(likely[token], token_logprobs[i], "greedy takes the likeliest");
    assert.equal(likely[token], Math.max(...Object.values(likely)));
  }
  const chat = await client.chat.completions.create({
    ...question(QUESTION),
    temperature: 0,
    logprobs: true,
    top_logprobs: 2,
  });
  const [{ message, logprobs }] = chat.choices, content = logprobs?.content ?? [];
  assert.equal(content.map(({ token }) => token).join(""), message.content);
  for (const { token, logprob, bytes, top_logprobs: top } of content) {
    assert.deepEqual(new TextDecoder().decode(Uint8Array.from(bytes ?? [])), token);
    assert.equal(top[0].logprob, logprob);
  }
});

gpuTest("serve: a seed repeats, penalties and biases count, a stop text ends", async () => {
  const { client } = await served();
  const draw = async (seed: number, more: object = {}) => {
    const asked = { ...question(QUESTION), temperature: 1.5, seed, ...more };
    return (await client.chat.completions.create(asked)).choices[0].message.content;
  };
  const first = await draw(1);
  assert.equal(await draw(1), first);
  assert.notEqual(await draw(2), first);
  const greedy = (await draw(1, { temperature: 0 })) ?? "", [word] = greedy.split(" ").slice(1);
  const { choices: [stopped] } = await client.chat.completions.create({
    ...question(QUESTION),
    temperature: 0,
    stop: [` ${word}`],
  });
  assert.equal(stopped.message.content, greedy.slice(0, greedy.indexOf(` ${word}`)));
  assert.equal(stopped.finish_reason, "stop");
  const biased = await client.completions.create({
    model: MODEL,
    prompt: "The",
    temperature: 0,
    max_tokens: 4,
    logit_bias: { "340": 100 },
    logprobs: 0,
  });
  const repeated = new Set(biased.choices[0].logprobs?.tokens?.map((token) => token.trim()));
  assert.equal(repeated.size, 1, "a bias of 100 leaves one token");
});

gpuTest("serve: openai's client is told of errors, and may abort", async () => {
  const { client } = await served();
  await assert.rejects(
    client.chat.completions.create({ ...question(QUESTION), model: "gpt-4o" }),
    (error: unknown) =>
      error instanceof OpenAI.NotFoundError && error.code === "model_not_found" &&
      /"gpt-4o" is not served here/.test(error.message),
  );
  await assert.rejects(
    client.chat.completions.create({ ...question("mice ".repeat(2000)) }),
    (error: unknown) =>
      error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded",
  );
  const stop = new AbortController();
  const stream = await client.chat.completions.create({
    ...question(QUESTION),
    ...ENDLESS,
    max_tokens: 400,
    stream: true,
  }, { signal: stop.signal });
  for await (const _ of stream) stop.abort();
  const { baseURL } = client;
  for (;;) { // The server learns of it after a moment.
    const health = await (await fetch(new URL("/health", baseURL))).json();
    if (health.running === 0) break;
  }
});

gpuTest(
  "serve: greedy answers are generate's with 31 others running, and a seed repeats",
  async () => {
    const { client } = await served();
    const expected = await generated(QUESTIONS);
    const ask = async (content: string, more: object) => {
      const asked = { ...question(content), ...more };
      return (await client.chat.completions.create(asked)).choices[0].message.content;
    };
    const seeded = { temperature: 1, seed: 7 };
    const drawn = [];
    for (const content of QUESTIONS.slice(0, 4)) drawn.push(await ask(content, seeded));
    assert.deepEqual(
      await Promise.all(QUESTIONS.map((content) => ask(content, { temperature: 0 }))),
      expected,
    );
    // Others come and go between the steps, each with its own way to draw.
    const mixed = await Promise.all(QUESTIONS.map(async (content, i) => {
      await new Promise((resolve) => setTimeout(resolve, 40 * (i % 5)));
      if (i < 4) return await ask(content, seeded);
      if (i % 2 === 0) return await ask(content, { temperature: 0 });
      await ask(content, { temperature: 1, top_p: 0.8, presence_penalty: 1, max_tokens: i });
    }));
    assert.deepEqual(mixed.slice(0, 4), drawn);
    assert.deepEqual(
      mixed.filter((_, i) => i >= 4 && i % 2 === 0),
      expected.filter((_, i) => i >= 4 && i % 2 === 0),
    );
  },
);

gpuTest("serve: the AI SDK answers and streams", async () => {
  const { baseURL, client } = await served();
  const provider = createOpenAICompatible({ name: "lorikeet", baseURL, includeUsage: true });
  const asked = {
    model: provider(MODEL),
    prompt: QUESTION,
    temperature: 0,
    maxOutputTokens: TOKENS,
  };
  const { choices: [{ message }] } = await client.chat.completions.create({
    ...question(QUESTION),
    temperature: 0,
  });
  const { text, usage } = await generateText(asked);
  assert.equal(text, message.content);
  const streamed = streamText(asked);
  let pieces = "";
  for await (const piece of streamed.textStream) pieces += piece;
  assert.equal(pieces, message.content);
  assert.deepEqual((await streamed.usage).outputTokens, usage.outputTokens);
});

gpuTest("serve: openai's client gets responses, whole and as a stream", async () => {
  const { client } = await served();
  const { choices: [{ message }], usage: counted } = await client.chat.completions.create({
    ...question(QUESTION),
    temperature: 0,
  });
  const asked = { model: MODEL, temperature: 0, max_output_tokens: TOKENS };
  const whole = await client.responses.create({ ...asked, input: QUESTION });
  assert.equal(whole.output_text, message.content);
  assert.equal(whole.usage?.total_tokens, counted?.total_tokens);
  const input = [{ role: "user" as const, content: QUESTION }];
  const stream = client.responses.stream({ ...asked, input });
  let text = "";
  stream.on("response.output_text.delta", ({ delta }) => text += delta);
  const last = await stream.finalResponse();
  assert.equal(text, message.content);
  assert.equal(last.output_text, message.content);
  assert.deepEqual(last.usage, whole.usage);
  const cut = await client.responses.create({ ...asked, input: QUESTION, max_output_tokens: 1 });
  assert.equal(cut.status, "incomplete");
  assert.equal(cut.incomplete_details?.reason, "max_output_tokens");
  await assert.rejects(
    client.responses.create({ ...asked, input: QUESTION, previous_response_id: "resp_1" }),
    (error: unknown) =>
      error instanceof OpenAI.BadRequestError && error.param === "previous_response_id",
  );
  const form = {
    type: "json_schema" as const,
    name: "colour",
    schema: {
      type: "object",
      properties: { colour: { enum: ["red", "green"] } },
      required: ["colour"],
    },
  };
  const kept = await client.responses.create({
    ...asked,
    input: QUESTION,
    max_output_tokens: 60,
    text: { format: form },
  });
  assert.match(kept.output_text, /^\{"colour": "(red|green)"\}$/);
});

gpuTest("serve: Ctrl-C finishes the answers that are being made", async () => {
  const { command, client } = await served();
  const stream = await client.chat.completions.create({
    ...question(QUESTION),
    ...ENDLESS,
    max_tokens: 60,
    stream: true,
  });
  let ended: string | null = null, isAsked = false;
  for await (const { choices: [{ finish_reason }] } of stream) {
    if (!isAsked) command.kill("SIGINT");
    isAsked = true;
    ended = finish_reason;
  }
  assert.equal(ended, "length");
  const messages = await new Response(command.stderr).text();
  assert.equal((await command.status).code, 0, messages);
  assert.match(messages, /Finishing the answers/);
});
