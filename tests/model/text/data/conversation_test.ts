import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { type LoadOptions, parseSamples } from "../../../../model/text/data/load.ts";
import { type ChatSample, isChat } from "../../../../model/text/sample.ts";
import { JSON_STYLE, writeJsonText } from "../../../../model/text/templates/jinja/json.ts";
import type { Value } from "../../../../model/text/templates/jinja/values.ts";

const load = (rows: unknown, options?: LoadOptions) =>
  parseSamples(JSON.stringify(rows), "some.json", options);

const json = (value: Value | undefined) =>
  value === undefined ? undefined : JSON.parse(writeJsonText(value, JSON_STYLE).value);

function chatOf(row: unknown, options?: LoadOptions): ChatSample {
  const [sample] = load([row], options).samples;
  assert.ok(isChat(sample));
  return sample;
}

/** The messages of a row as templates see them. */
const messagesOf = (row: unknown) =>
  chatOf(row).messages.map(({ role, content, record }) => json(record) ?? { role, content });

const ask = { role: "user", content: "Why?" }, answer = { role: "assistant", content: "So." };
const call = { type: "function", function: { name: "f", arguments: { x: 1, y: [2.50, true] } } };

/** What a list of messages is called, the row, and the messages as OpenAI has them. */
const rows: [string, unknown, unknown[]][] = [
  ["OpenAI's", { messages: [ask, answer] }, [ask, answer]],
  ["ShareGPT's", {
    conversations: [{ from: "human", value: "Why?" }, { from: "gpt", value: "So." }],
  }, [ask, answer]],
  ["OpenAI's under ShareGPT's name", { conversations: [ask, answer] }, [ask, answer]],
  ["ShareGPT's under OpenAI's name", {
    messages: [{ from: "user", value: "Why?" }, { from: "assistant", value: "So." }],
  }, [ask, answer]],
  ["in a field named conversation", { conversation: [ask, answer] }, [ask, answer]],
  ["as text, as tables have it", { messages: JSON.stringify([ask, answer]) }, [ask, answer]],
  ["with a system text beside it", { system: "Sing.", conversations: [ask, answer] }, [
    { role: "system", content: "Sing." },
    ask,
    answer,
  ]],
  ["with a number for a text", { messages: [{ role: "user", content: 4.50 }, answer] }, [
    { role: "user", content: "4.5" },
    answer,
  ]],
  ["with parts of text", {
    messages: [{ role: "user", content: [{ type: "text", text: "Why" }, "?"] }, answer],
  }, [
    { role: "user", content: [{ type: "text", text: "Why" }, { type: "text", text: "?" }] },
    answer,
  ]],
  ["with calls, results and thoughts", {
    messages: [
      ask,
      { role: "assistant", content: null, tool_calls: [call], reasoning_content: "hm" },
      { role: "tool", content: "7", tool_call_id: "1", name: null },
      answer,
    ],
  }, [
    ask,
    { role: "assistant", content: null, tool_calls: [call], reasoning_content: "hm" },
    { role: "tool", content: "7", tool_call_id: "1" },
    answer,
  ]],
  ["with nulls for what there is not, and without calls", {
    messages: [{ ...ask, tool_calls: null, weight: null }, { ...answer, tool_calls: [] }],
  }, [ask, answer]],
  ["with a result in JSON", {
    messages: [ask, { role: "tool", content: { a: [1.0, "é"] } }, answer],
  }, [ask, { role: "tool", content: '{"a": [1, "é"]}' }, answer]],
  ["with OpenAI's older calls", {
    messages: [
      ask,
      { role: "assistant", content: "", function_call: { name: "f", arguments: "{}" } },
      { role: "function", name: "f", content: "7" },
    ],
  }, [
    ask,
    {
      role: "assistant",
      content: "",
      tool_calls: [{ type: "function", function: { name: "f", arguments: "{}" } }],
    },
    { role: "tool", name: "f", content: "7" },
  ]],
  ["with ShareGPT's calls", {
    conversations: [
      { from: "human", value: "Why?" },
      { from: "function_call", value: '{"name": "f", "arguments": {"x": 1}}' },
      { from: "observation", value: "7" },
    ],
  }, [
    ask,
    {
      role: "assistant",
      content: "",
      tool_calls: [{ type: "function", function: { name: "f", arguments: { x: 1 } } }],
    },
    { role: "tool", content: "7" },
  ]],
  ["as prompt and completion", { prompt: [ask], completion: [answer] }, [ask, answer]],
];
for (const [name, row, messages] of rows) {
  Deno.test(`conversations: ${name}`, () => assert.deepEqual(messagesOf(row), messages));
}

Deno.test("conversations: which messages may be learnt, and which say nothing", () => {
  const system = { role: "system", content: "Sing." }, blank = { ...answer, content: " \n" };
  const learnt = (row: unknown) => {
    const { answers, blank, prompt } = chatOf(row);
    return { answers, blank: [...blank], prompt };
  };
  const two = [ask, answer, ask, answer];
  assert.deepEqual(learnt({ messages: two }), { answers: [1, 3], blank: [], prompt: 0 });
  assert.deepEqual(learnt({ messages: [system, ask, blank, ask, answer] }), {
    answers: [2, 4],
    blank: [2],
    prompt: 0,
  });
  // A system text beside the messages is one of them.
  assert.deepEqual(learnt({ system: "Sing.", conversations: two }).answers, [2, 4]);
  assert.deepEqual(learnt({ prompt: two.slice(0, 3), completion: [answer, ask, answer] }), {
    answers: [3, 5],
    blank: [],
    prompt: 3,
  });
  const weighed = [ask, { ...answer, weight: 0 }, ask, { ...answer, weight: 1.0 }];
  assert.deepEqual(learnt({ messages: weighed }).answers, [3]);
  assert.ok(!("weight" in messagesOf({ messages: weighed })[1]));
  // A call is something to learn, and so are thoughts.
  const calling = { role: "assistant", content: "", tool_calls: [call] };
  const thinking = { role: "assistant", content: "", thinking: "hm" };
  assert.deepEqual(learnt({ messages: [ask, calling, ask, thinking] }).blank, []);
});

Deno.test("conversations: tools and variables of a row, as they are or as JSON text", () => {
  const tool = { type: "function", function: { name: "f", parameters: { n: 1, m: 1.5 } } };
  const with_ = (fields: object) => chatOf({ messages: [ask, answer], ...fields });
  for (const tools of [[tool], JSON.stringify([tool]), [JSON.stringify(tool)]]) {
    assert.deepEqual(json(with_({ tools }).tools), [tool]);
  }
  for (const tools of [null, [], "", "[]"]) assert.equal(with_({ tools }).tools, undefined);
  const variables = { enable_thinking: false, n: 2 };
  for (const chat_template_kwargs of [variables, JSON.stringify(variables)]) {
    assert.deepEqual(json(with_({ chat_template_kwargs }).variables), variables);
  }
  assert.deepEqual(load([{ messages: [ask, answer], tools: [tool], id: 1 }]).notes, [
    "Fields not used: id (1 row)",
  ]);
});

Deno.test("conversations: a function alone is a tool of ShareGPT's", () => {
  const f = { name: "f", parameters: { n: 1 } }, tool = { type: "function", function: f };
  const conversations = [{ from: "human", value: "a" }, { from: "gpt", value: "b" }];
  for (const tools of [[f], JSON.stringify([f]), [tool]]) {
    assert.deepEqual(json(chatOf({ conversations, tools }).tools), [tool]);
  }
  const other = { type: "retrieval", name: "g" };
  assert.deepEqual(json(chatOf({ conversations, tools: [other] }).tools), [other]);
  // OpenAI's are as the row has them.
  assert.deepEqual(json(chatOf({ messages: [ask, answer], tools: [f] }).tools), [f]);
});

Deno.test("conversations: told by their fields, unless a format is named", () => {
  const row = { messages: [ask, answer], conversations: [ask], text: "a" };
  assert.equal(chatOf(row).messages.length, 2);
  assert.equal(chatOf(row, { data_format: "sharegpt" }).messages.length, 1);
  assert.deepEqual(load([row], { data_format: "text" }).samples, [{ prompt: "", completion: "a" }]);
  // A prompt beside messages is a copy of the first.
  assert.equal(chatOf({ prompt: "Why?", prompt_id: "1", messages: [ask, answer] }).prompt, 0);
  const kept = { instruction: "a", output: "b", messages: [ask] };
  assert.deepEqual(load([kept]).samples, [{ instruction: "a", input: "", output: "b" }]);
  // An object with messages is one row, as `chat` writes a conversation.
  const saved = { model: "m", adapter: null, messages: [ask, answer] };
  const { samples, notes } = parseSamples(JSON.stringify(saved, null, 2), "saved.json");
  assert.equal(samples.length, 1);
  assert.deepEqual(notes, ["Fields not used: model (1 row)"]);
});

const messages = (...list: unknown[]) => ({ messages: list });

/** What is wrong with a row, the row, and what the message says after its place. */
const faults: [string, unknown, RegExp][] = [
  ["no list", { messages: "hi" }, /: messages is text; expected a list of messages$/],
  ["an object", { conversations: {} }, /: conversations is an object; expected a list/],
  ["an empty list", messages(), /: messages has no message; expected at least one$/],
  ["text for a message", messages("hi"), /: messages, message 1: it is text; expected an object/],
  ["no role", messages(ask, { content: "a" }), /, message 2: it has no role; expected user, /],
  ["a list for a role", messages({ role: [], content: "a" }), /its role is a list; expected user/],
  ["no content", messages({ role: "user" }), /message 1: it has no content; expected text$/],
  ["a null alone", messages(ask, { ...answer, content: null }), /2: it has no content; expected/],
  ["an object", messages({ role: "user", content: {} }), /its content is an object; expected text/],
  [
    "an image",
    messages({ role: "user", content: [{ type: "image_url", image_url: { url: "a" } }] }),
    /its content has a part of type "image_url"; expected parts of text$/,
  ],
  ["a list in a list", messages({ role: "user", content: [[]] }), /a part which is a list; exp/],
  ["a weight of 2", messages(ask, { ...answer, weight: 2 }), /its weight is 2; expected 0 or 1$/],
  ["a weight in words", messages(ask, { ...answer, weight: "no" }), /its weight is no; expected 0/],
  [
    "calls that are none",
    messages(ask, { ...answer, tool_calls: ["f"] }),
    /its tool_calls are a list; expected a list of calls/,
  ],
  [
    "a call that is no JSON",
    messages(ask, { from: "function_call", value: "f(1)" }),
    /its function call is not JSON; expected name and arguments$/,
  ],
  [
    "a call without a name",
    messages(ask, { from: "function_call", value: "{}" }),
    /its function call has no name/,
  ],
  ["tools that are no list", { ...messages(ask, answer), tools: { a: 1 } }, /: tools is no list; /],
  [
    "tools that are no JSON",
    { ...messages(ask, answer), tools: "f" },
    /: tools is text that is no/,
  ],
  [
    "a tool that is none",
    { ...messages(ask, answer), tools: [{}, 3] },
    /: tools, tool 2: it is no object; expected a list of JSON schemas$/,
  ],
  [
    "variables that are a list",
    { ...messages(ask, answer), chat_template_kwargs: [] },
    /: chat_template_kwargs is no object; expected variables/,
  ],
  ["messages and text", { prompt: [ask], completion: "a" }, /: completion is text, and prompt a l/],
  ["messages alone", { prompt: [ask], completion: null }, /: completion is missing, and prompt/],
  [
    "a question to be learnt",
    { prompt: [ask], completion: [ask] },
    /: completion begins with a message by "user"; expected the assistant's$/,
  ],
];
for (const [name, row, message] of faults) {
  Deno.test(`conversations: a row with ${name} is refused by its number`, () => {
    assert.throws(() => load([messages(ask, answer), row]), (error) => {
      assert.ok(error instanceof UserError);
      assert.ok(error.message.startsWith('data file "some.json", row 2 (line 1)'), error.message);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("conversations: questions need no answers where none is asked for", () => {
  const { samples } = load([messages(ask), { prompt: [ask] }], { outputs: false });
  assert.deepEqual(samples.map((sample) => isChat(sample) && sample.answers), [[], []]);
});
