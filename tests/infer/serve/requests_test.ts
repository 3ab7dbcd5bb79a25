/** What requests may ask for: what the engine is told of them, and what is said of wrong ones. */
import assert from "node:assert/strict";
import { GREEDY } from "../../../model/engine/engine.ts";
import { chat, serverTest, type TestServer, text } from "./in_process.ts";

/** What the engine is told of a request, which is answered at once. */
async function optionsOf({ post, admitted, give }: TestServer, path: string, body: unknown) {
  const answer = post(path, body), { id, prompt, options } = await admitted();
  give({ id, ids: [], finished: "stop" });
  assert.equal((await answer).status, 200);
  return { prompt, options };
}

serverTest("fields of a request decide how the engine samples", {}, async (server) => {
  const plain = await optionsOf(server, "/v1/completions", text());
  const { seed, ...rest } = plain.options.sampling ?? assert.fail();
  assert.deepEqual({ ...rest, seed: 0 }, { ...GREEDY, temperature: 1 });
  const again = await optionsOf(server, "/v1/completions", text());
  assert.notEqual(again.options.sampling?.seed, seed, "each request draws anew");
  assert.equal(plain.options.maxTokens, 16);
  assert.equal(plain.options.logprobs, undefined);
  assert.equal(plain.options.adjustments, undefined);
  assert.ok(plain.options.stop.length > 0);

  const fields = { temperature: 0.5, top_p: 0.9, top_k: 7, min_p: 0.1, seed: 5, max_tokens: 3 };
  const more = { frequency_penalty: 1.5, presence_penalty: -2, logit_bias: { "3": -100, "4": 7 } };
  const all = { ...fields, ...more, repetition_penalty: 1.2, ignore_eos: true };
  const { options } = await optionsOf(server, "/v1/completions", text({ ...all, logprobs: 5 }));
  const { max_tokens, ...sampling } = fields;
  assert.deepEqual(options.sampling, { ...sampling, repetition_penalty: 1.2 });
  assert.deepEqual(options.adjustments, {
    frequency_penalty: 1.5,
    presence_penalty: -2,
    logit_bias: new Map([[3, -100], [4, 7]]),
  });
  assert.equal(options.maxTokens, max_tokens);
  assert.equal(options.logprobs, 5);
  assert.deepEqual(options.stop, []);

  const ofChat = {
    max_completion_tokens: 9,
    logprobs: true,
    top_logprobs: 20,
    top_k: -1,
    seed: -1,
  };
  const told = (await optionsOf(server, "/v1/chat/completions", chat(ofChat))).options;
  assert.deepEqual([told.maxTokens, told.logprobs, told.sampling?.top_k], [9, 20, 0]);
  assert.equal(told.sampling?.seed, 2 ** 32 - 1);
  // Who asks and what is kept changes nothing, nor does a field that is null.
  const ignored = { user: "u", metadata: { a: "b" }, store: false, stop: null, n: null };
  await optionsOf(server, "/v1/chat/completions", chat(ignored));
});

serverTest("seeds have 64 bits, as far as JSON's numbers do", {}, async (server) => {
  const seedOf = async (seed: string) => {
    const { options } = await optionsOf(
      server,
      "/v1/completions",
      `{"model":"builtin","prompt":"Daisy","seed":${seed}}`,
    );
    return options.sampling?.seed;
  };
  assert.equal(await seedOf("4294967303"), 7);
  const large = ["9223372036854775807", "-9223372036854770000", "6148914691236517205"]
    .concat("6148914691236550000", "1152921504606846976", "36028797018963968");
  const seeds: (number | undefined)[] = [];
  for (const seed of large) {
    seeds.push(await seedOf(seed));
    assert.equal(await seedOf(seed), seeds.at(-1), "a seed repeats");
  }
  assert.ok(seeds.every((seed) => Number.isInteger(seed) && seed! >= 0 && seed! < 2 ** 32));
  assert.equal(new Set(seeds).size, large.length, "seeds that JSON tells apart stay different");
});

serverTest("prompts are texts, ids, or lists of them", { sequences: 4 }, async (server) => {
  const { post, admitted, give } = server;
  const { prompt } = await optionsOf(server, "/v1/completions", text({ prompt: "Daisy is" }));
  assert.deepEqual((await optionsOf(server, "/v1/completions", text({ prompt }))).prompt, prompt);
  const answer = post("/v1/completions", text({ prompt: ["Daisy is", "Otto"], n: 2, seed: 1 }));
  const all = [await admitted(), await admitted(), await admitted(), await admitted()];
  assert.deepEqual(all.map(({ options }) => options.subsequence), [0, 1, 2, 3]);
  assert.deepEqual(all[1].prompt, prompt);
  assert.deepEqual(all[2].prompt, all[3].prompt);
  assert.notDeepEqual(all[2].prompt, prompt);
  // They end in another order than they were asked for.
  for (const { id, prompt } of all.toReversed()) {
    give({ id, ids: [prompt[1]], finished: "length" });
  }
  const { choices, usage } = JSON.parse((await answer).text);
  assert.deepEqual(choices.map(({ index }: { index: number }) => index), [0, 1, 2, 3]);
  assert.equal(choices[0].text, choices[1].text);
  assert.notEqual(choices[1].text, choices[2].text);
  const prompt_tokens = all[0].prompt.length + all[2].prompt.length;
  assert.deepEqual(usage, { prompt_tokens, completion_tokens: 4, total_tokens: prompt_tokens + 4 });
});

serverTest("what is wrong with a request is said, with the field", {}, async ({ post, told }) => {
  const wrong: [string, Record<string, unknown>, string, RegExp][] = [
    [
      "chat/completions",
      chat({ model: "gpt-4o" }),
      "model",
      /"gpt-4o" is not served here; expected "builtin"/,
    ],
    ["chat/completions", chat({ messages: [] }), "messages", /messages: /],
    ["chat/completions", { model: "builtin" }, "messages", /messages: is missing/],
    ["chat/completions", { messages: [] }, "model", /^model: is missing; expected string$/],
    [
      "chat/completions",
      chat({ temprature: 1 }),
      "temprature",
      /unknown here; did you mean "temperature"/,
    ],
    ["chat/completions", chat({ temperature: -1 }), "temperature", />=0/],
    ["chat/completions", chat({ temperature: "hot" }), "temperature", /expected number/],
    ["chat/completions", chat({ n: 0 }), "n", />=1/],
    ["chat/completions", chat({ n: 5 }), "n", /asks for 5 answers at once; expected at most 4/],
    ["chat/completions", chat({ top_logprobs: 3 }), "top_logprobs", /expected logprobs to be true/],
    ["chat/completions", chat({ top_logprobs: 21, logprobs: true }), "top_logprobs", /<=20/],
    ["chat/completions", chat({ stop: [""] }), "stop[0]", /stop\[0\]: /],
    [
      "chat/completions",
      chat({ logit_bias: { "99999": 1 } }),
      "logit_bias",
      /there is no token 99999/,
    ],
    ["chat/completions", chat({ logit_bias: { x: 1 } }), "logit_bias.x", /logit_bias/],
    ["chat/completions", chat({ audio: {} }), "audio", /unknown here/],
    [
      "chat/completions",
      chat({ messages: [{ role: "assistant", content: "a" }] }),
      "messages",
      /is by "assistant", expected "user"/,
    ],
    [
      "chat/completions",
      chat({ messages: [{ role: "user", content: [{ type: "image_url" }] }] }),
      "messages[0].content",
      /parts of type text/,
    ],
    [
      "chat/completions",
      chat({ messages: [{ role: "user", content: "Who is afraid? ".repeat(200) }] }),
      "messages",
      /the prompt has \d+ tokens; expected at most 127 tokens/,
    ],
    [
      "chat/completions",
      chat({ messages: [{ role: "user", content: "x".repeat(40_000) }] }),
      "messages",
      /\d+ characters are too many/,
    ],
    ["chat/completions", chat({ seed: 0.5 }), "seed", /^seed: expected a whole number of 64 bits$/],
    ["completions", text({ seed: 2 ** 64 }), "seed", /expected a whole number of 64 bits/],
    ["completions", text({ prompt: [] }), "prompt", /expected a text, a list of ids/],
    ["completions", text({ prompt: [1, 99999] }), "prompt", /there is no token 99999/],
    [
      "completions",
      text({ prompt: Array(128).fill(1) }),
      "prompt",
      /has 128 tokens; expected at most 127/,
    ],
    ["completions", text({ best_of: 2 }), "best_of", /only n \(1\) answers are made/],
    ["completions", text({ suffix: "x" }), "suffix", /expected null/],
    ["completions", text({ logprobs: 6 }), "logprobs", /<=5/],
  ];
  for (const [path, body, param, message] of wrong) {
    const { status, text: answer } = await post(`/v1/${path}`, body);
    const { error } = JSON.parse(answer), what = JSON.stringify(body).slice(0, 100);
    const isOther = param === "model" && "model" in body;
    assert.equal(status, isOther ? 404 : 400, `${what}: ${answer}`);
    assert.equal(error.param, param, what);
    assert.match(error.message, message);
    assert.equal(error.type, status === 404 ? "not_found_error" : "invalid_request_error");
  }
  assert.deepEqual(told, []);
});
