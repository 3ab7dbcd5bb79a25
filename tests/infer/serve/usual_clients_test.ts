/** What editors and agents send besides what is answered, and addresses that people give them by mistake. */
import assert from "node:assert/strict";
import { chat, serverTest, text } from "./in_process.ts";

const CHAT = "/v1/chat/completions";

serverTest("fields for other models change nothing", {}, async ({ post, admitted, give }) => {
  const prompts: number[][] = [];
  const hints = { reasoning_effort: "low", verbosity: "low", prediction: null };
  const older = { modalities: ["text"], functions: null, function_call: null };
  for (const fields of [{}, { ...hints, ...older, parallel_tool_calls: true, tools: [] }]) {
    const answer = post(CHAT, chat(fields)), { id, prompt } = await admitted();
    give({ id, ids: [], finished: "stop" });
    assert.equal((await answer).status, 200);
    prompts.push([...prompt]);
  }
  assert.deepEqual(prompts[1], prompts[0]);
  for (const fields of [{ functions: [] }, { function_call: "auto" }, { modalities: ["audio"] }]) {
    const { status, text } = await post(CHAT, chat(fields)), [name] = Object.keys(fields);
    assert.equal(status, 400, text);
    assert.ok(JSON.parse(text).error.param.startsWith(name), text);
  }
});

serverTest("what agents send with every response changes nothing", {}, async (server) => {
  const { post, admitted, give } = server, path = "/v1/responses";
  const plain = { model: "builtin", input: "Who is afraid of rain?" };
  const hints = {
    text: { verbosity: "low" },
    reasoning: { effort: "medium", summary: "auto" },
    include: ["reasoning.encrypted_content"],
    previous_response_id: null,
    conversation: null,
    max_tool_calls: null,
    truncation: "disabled",
    store: false,
    parallel_tool_calls: true,
    tools: [],
  };
  const prompts: number[][] = [];
  for (const fields of [{}, hints, { text: { format: null }, reasoning: null, include: [] }]) {
    const answer = post(path, { ...plain, ...fields }), { id, prompt } = await admitted();
    give({ id, ids: [], finished: "stop" });
    const { status, text } = await answer;
    assert.equal(status, 200, text);
    assert.deepEqual(JSON.parse(text).text.format, { type: "text" });
    prompts.push([...prompt]);
  }
  assert.deepEqual(prompts.slice(1), [prompts[0], prompts[0]]);
  const wrong: [object, string, RegExp][] = [
    [{ reasoning: { summary: "detailed" } }, "reasoning.summary", /not told apart here/],
    [{ reasoning: { budget: 3 } }, "reasoning.budget", /unknown here/],
    [{ include: ["message.output_text.logprobs"] }, "include[0]", /have no log-probabilities/],
    [{ include: ["thoughts"] }, "include[0]", /expected reasoning\.encrypted_content, /],
    [{ text: { verbosity: "loud" } }, "text.verbosity", /"low"/],
    [{ previous_response_id: "resp_1" }, "previous_response_id", /nothing is kept here; expected/],
    [{ conversation: "conv_1" }, "conversation", /nothing is kept here/],
    [{ background: true }, "background", /false/],
  ];
  for (const [fields, param, message] of wrong) {
    const { status, text } = await post(path, { ...plain, ...fields });
    const { error } = JSON.parse(text);
    assert.deepEqual([status, error.param], [400, param], text);
    assert.match(error.message, message);
  }
});

serverTest("an empty suffix is none", {}, async ({ post, admitted, give }) => {
  const answer = post("/v1/completions", text({ suffix: "", best_of: 1 }));
  give({ id: (await admitted()).id, ids: [], finished: "stop" });
  assert.equal((await answer).status, 200);
});

serverTest("answers come back as libraries dump them", {}, async ({ post, admitted, give }) => {
  const prompts: number[][] = [];
  const nulls = { refusal: null, audio: null, function_call: null, tool_calls: null };
  const thoughts = { reasoning_content: "Hm.", reasoning: null, annotations: [] };
  for (const fields of [{}, { ...nulls, ...thoughts }, { tool_calls: [] }]) {
    const messages = [
      { role: "user", content: "Who is afraid of rain?" },
      { role: "assistant", content: "Otto.", ...fields },
      { role: "user", content: [{ type: "text", text: "Why?" }] },
    ];
    const answer = post(CHAT, chat({ messages })), { id, prompt } = await admitted();
    give({ id, ids: [], finished: "stop" });
    assert.equal((await answer).status, 200);
    prompts.push([...prompt]);
  }
  assert.deepEqual(prompts[1], prompts[0]);
  assert.deepEqual(prompts[2], prompts[0]);
});

serverTest("a path of nothing tells which was meant", {}, async ({ ask, post }) => {
  const meant: [string, RegExp][] = [
    ["/models", /did you mean \/v1\/models\?$/],
    ["/v1/v1/models", /did you mean \/v1\/models\?$/],
    ["/v1//models", /did you mean \/v1\/models\?$/],
    ["/completions", /did you mean \/v1\/completions\?$/],
    ["/openai/v1/chat/completions/", /did you mean \/v1\/chat\/completions\?$/],
    ["/favicon.ico", /there is no GET \/favicon\.ico here$/],
  ];
  for (const [path, message] of meant) {
    const { status, text } = await ask({ path });
    assert.equal(status, 404, path);
    assert.match(JSON.parse(text).error.message, message);
  }
  for (const name of ["%zz", "%ff", "..%2fbuiltin"]) {
    const { status, text } = await ask({ path: `/v1/models/${name}` });
    assert.equal(status, 404, text);
    assert.equal(JSON.parse(text).error.code, "model_not_found");
  }
  const asked = [await ask({ path: CHAT }), await ask({ path: CHAT, method: "PUT" })];
  for (const { status, headers, text } of asked) {
    assert.equal(status, 405, text);
    assert.equal(headers.get("allow"), "POST");
    assert.match(JSON.parse(text).error.message, /does not know \w+; expected POST$/);
  }
  assert.equal((await post("/health", {})).headers.get("allow"), "GET");
});
