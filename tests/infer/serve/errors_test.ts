/** Errors as npm's openai knows them: its class for each, with what programs and people are told. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { chat, serverTest, type TestServer, text } from "./in_process.ts";

const KEY = "0123456789abcdef";

const clientOf = ({ port }: TestServer, apiKey = KEY) =>
  new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey, maxRetries: 0 });

type ApiError = InstanceType<typeof OpenAI.APIError>;
type ChatBody = OpenAI.ChatCompletionCreateParamsNonStreaming;
type TextBody = OpenAI.CompletionCreateParamsNonStreaming;
const chatBody = (fields = {}) => chat(fields) as unknown as ChatBody;
const textBody = (fields = {}) => text(fields) as unknown as TextBody;

/** Asserts that a request fails as an error of a class, with these fields and a sentence. */
async function fails(
  request: PromiseLike<unknown>,
  kind: new (...args: never[]) => ApiError,
  { message, ...fields }: {
    message: RegExp;
    status?: number;
    type?: string;
    code?: string | null;
    param?: string | null;
  },
): Promise<ApiError> {
  let error: unknown;
  await Promise.resolve(request).catch((thrown) => error = thrown);
  assert.ok(error instanceof kind, `${error}`);
  assert.match(error.message, message);
  for (const [name, value] of Object.entries(fields)) {
    assert.equal(error[name as keyof typeof fields], value, `${name} of ${error.message}`);
  }
  return error;
}

serverTest("an unknown model or path is openai's NotFoundError", {}, async (server) => {
  const client = clientOf(server), { told } = server, model = "gpt-4o";
  const expected = {
    message: /404 model "gpt-4o" is not served here; expected "builtin"$/,
    type: "not_found_error",
    code: "model_not_found",
    param: "model",
  };
  const requests = [
    client.chat.completions.create(chatBody({ model })),
    client.completions.create(textBody({ model })),
    client.responses.create({ model, input: "Hi" }),
    client.models.retrieve(model),
  ];
  for (const request of requests) await fails(request, OpenAI.NotFoundError, expected);
  await fails(client.embeddings.create({ model: "builtin", input: "Hi" }), OpenAI.NotFoundError, {
    message: /there is no POST \/v1\/embeddings here$/,
    code: "unknown_url",
  });
  assert.deepEqual(told, []);
});

serverTest("a wrong field is openai's BadRequestError", {}, async (server) => {
  const client = clientOf(server), type = "invalid_request_error";
  const wrong: [PromiseLike<unknown>, string, RegExp][] = [
    [client.chat.completions.create(chatBody({ temperature: -1 })), "temperature", /^400 temp/],
    [client.chat.completions.create(chatBody({ tempreature: 1 })), "tempreature", /did you mean/],
    [client.chat.completions.create(chatBody({ messages: [] })), "messages", /^400 messages: /],
    [
      client.chat.completions.create(chatBody({ messages: [{ role: "user", content: [{}] }] })),
      "messages[0].content",
      /expected a text, or a list of parts/,
    ],
    [client.completions.create(textBody({ prompt: [99_999] })), "prompt", /no token 99999/],
    [client.completions.create(textBody({ logprobs: 6 })), "logprobs", /^400 logprobs: /],
    [client.responses.create({ model: "builtin", input: "Hi", top_p: 2 }), "top_p", /^400 top_p/],
  ];
  for (const [request, param, message] of wrong) {
    await fails(request, OpenAI.BadRequestError, { message, type, param });
  }
});

serverTest("a wrong key is openai's AuthenticationError", { keys: [KEY] }, async (server) => {
  const wrong = clientOf(server, "another-key-00001");
  await fails(wrong.chat.completions.create(chatBody()), OpenAI.AuthenticationError, {
    message: /^401 the API key is missing or wrong/,
    type: "authentication_error",
    code: "invalid_api_key",
  });
  assert.equal((await clientOf(server).models.list()).data.length, 1);
});

serverTest(
  "a full queue is openai's RateLimitError, after which its client asks again",
  { sequences: 1, queue: 0 },
  async (server) => {
    const { admitted, give } = server, client = clientOf(server);
    const running = client.completions.create(textBody());
    const { id } = await admitted();
    const error = await fails(client.completions.create(textBody()), OpenAI.RateLimitError, {
      message: /^429 /,
      type: "rate_limit_error",
      code: "queue_full",
    });
    assert.match(error.headers?.get("retry-after") ?? "", /^[1-9]\d*$/);
    // It waits as long as it was told to.
    const patient = client.completions.create(textBody(), { maxRetries: 1 });
    give({ id, ids: [5], finished: "stop" });
    await running;
    give({ id: (await admitted()).id, ids: [5], finished: "stop" });
    assert.equal((await patient).choices[0].finish_reason, "stop");
  },
);

serverTest("a failure of the engine is openai's InternalServerError", {}, async (server) => {
  const { admitted, give } = server, client = clientOf(server);
  const problem = "the logits are NaN", message = /the logits are NaN/;
  const whole = client.chat.completions.create(chatBody());
  give({ id: (await admitted()).id, ids: [], problem });
  await fails(whole, OpenAI.InternalServerError, { message, type: "server_error", status: 500 });
  // In a stream it comes as an event.
  const stream = await client.chat.completions.create({ ...chatBody(), stream: true });
  const { id } = await admitted();
  give({ id, ids: [5] });
  give({ id, ids: [], problem });
  const parts = (async () => {
    for await (const _ of stream);
  })();
  await fails(parts, OpenAI.APIError, { message, type: "server_error" });
  const events = await client.responses.create({ model: "builtin", input: "Hi", stream: true });
  give({ id: (await admitted()).id, ids: [], problem });
  const heard = (async () => {
    for await (const event of events) if (event.type === "error") return event.message;
  })();
  assert.match(String(await heard.catch((error) => error.message)), message);
  // While it finishes an answer, it takes no other.
  const last = client.completions.create(textBody());
  const running = await admitted();
  server.server.finish();
  await fails(client.completions.create(textBody()), OpenAI.InternalServerError, {
    message: /^503 /,
    status: 503,
  });
  give({ id: running.id, ids: [5], finished: "stop" });
  assert.equal((await last).choices.length, 1);
});
