/** Tools: what the template is given, calls in answers, and calls that have to be made. */
import assert from "node:assert/strict";
import { join } from "node:path";
import OpenAI from "openai";
import { type ToolCall, ToolText } from "../../../infer/serve/tools.ts";
import { openModelWithTokenizer } from "../../../model/checkpoint/source.ts";
import { startLorikeet, TemporaryFolder } from "../../cli/cli.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { addressOf, end } from "../../watch/served.ts";
import { chat, serverTest, type TestServer } from "./in_process.ts";
import { faultOf } from "./schemas.ts";
import { writeToolModel } from "./tool_model.ts";

const folder = new TemporaryFolder(), MODEL = join(folder.path, "tools");
writeToolModel(MODEL);
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { source, tokenizer } = await openModelWithTokenizer({ model: MODEL });
source.weights?.close();

const WEATHER = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 }, unit: { enum: ["C", "F"] } },
  required: ["city", "unit"],
};
const TREE = {
  type: "object",
  properties: { next: { anyOf: [{ $ref: "#" }, { type: "null" }] } },
  required: ["next"],
};
const TOOLS = [
  {
    type: "function" as const,
    function: { name: "weather", description: "How it is.", parameters: WEATHER },
  },
  { type: "function" as const, function: { name: "tree", parameters: TREE } },
];
const request = (fields: Record<string, unknown> = {}) =>
  chat({ model: "tools", tools: TOOLS, ...fields });
const settings = { model: MODEL, names: ["tools"], context: 1024 };

/** What is answered where the model writes a text, piece by piece. */
async function answered({ post, admitted, give }: TestServer, body: unknown, text: string) {
  const answer = post("/v1/chat/completions", body), { id, prompt } = await admitted();
  const ids = tokenizer.encode(text);
  for (let i = 0; i < ids.length; i += 3) give({ id, ids: ids.slice(i, i + 3) });
  give({ id, ids: [], finished: "stop" });
  return { text: (await answer).text, prompt: tokenizer.decode(prompt) };
}

const CALL = '{"name": "weather", "arguments": {"city": "Rio", "unit": "C"}}';
const named = (calls: readonly ToolCall[]) =>
  calls.map(({ function: call }) => [call.name, JSON.parse(call.arguments)]);
const EXPECTED = [["weather", { city: "Rio", unit: "C" }]];

serverTest("the template is given tools, calls and their results", settings, async (server) => {
  const messages = [
    { role: "user", content: "How is it in Rio?" },
    {
      role: "assistant",
      content: null,
      tool_calls: [{
        index: 0,
        id: "call_1",
        type: "function",
        function: JSON.parse(
          CALL.replace(
            '{"city": "Rio", "unit": "C"}',
            '"{\\"city\\": \\"Rio\\", \\"unit\\": \\"C\\"}"',
          ),
        ),
      }],
    },
    { role: "tool", tool_call_id: "call_1", content: "Warm." },
  ];
  const { prompt, text } = await answered(server, request({ messages }), "It is warm.");
  assert.match(prompt, /^Tools:\{.*"weather".*\}\{.*"tree".*\}user: How/);
  assert.ok(prompt.includes(`assistant: <tool_call>${CALL}</tool_call>`), prompt);
  assert.match(prompt, /tool: Warm\.assistant:$/);
  const [{ message, finish_reason }] = JSON.parse(text).choices;
  assert.deepEqual([message.content, message.tool_calls, finish_reason], [
    "It is warm.",
    undefined,
    "stop",
  ]);
  const none = await answered(server, request({ tool_choice: "none" }), CALL);
  assert.doesNotMatch(none.prompt, /Tools:/);
  assert.equal(JSON.parse(none.text).choices[0].message.content, CALL);
});

serverTest("calls are told from text, whole and in a stream", settings, async (server) => {
  const texts: [string, string | null, unknown[]][] = [
    [`<tool_call>\n${CALL}\n</tool_call>`, null, EXPECTED],
    [`I look.\n<tool_call>${CALL}</tool_call><tool_call>${CALL}</tool_call>`, "I look.", [
      ...EXPECTED,
      ...EXPECTED,
    ]],
    [CALL, null, EXPECTED],
    [`[${CALL}, ${CALL.replace("arguments", "parameters")}]`, null, [...EXPECTED, ...EXPECTED]],
    ['{"name": "other", "arguments": {}}', '{"name": "other", "arguments": {}}', []],
    ["[1, 2] is a list", "[1, 2] is a list", []],
    ["a <tool_call>b", "a <tool_call>b", []],
    ["a < b", "a < b", []],
  ];
  for (const [text, content, calls] of texts) {
    const { choices: [{ message, finish_reason }] } = JSON.parse(
      (await answered(server, request(), text)).text,
    );
    assert.equal(message.content?.trimEnd() ?? null, content, text);
    assert.deepEqual(named(message.tool_calls ?? []), calls, text);
    assert.equal(finish_reason, calls.length > 0 ? "tool_calls" : "stop");
    const stream = (await answered(server, request({ stream: true }), text)).text;
    const chunks = stream.match(/\{"id".*\}/g)?.map((line) => JSON.parse(line).choices[0]) ?? [];
    const streamed = chunks.map(({ delta }) => delta.content ?? "").join("");
    assert.equal(streamed.trimEnd(), content ?? "", text);
    assert.deepEqual(named(chunks.flatMap(({ delta }) => delta.tool_calls ?? [])), calls, text);
    assert.equal(chunks.at(-1).finish_reason, finish_reason);
  }
  const one = await answered(server, request({ parallel_tool_calls: false }), `[${CALL}, ${CALL}]`);
  assert.deepEqual(named(JSON.parse(one.text).choices[0].message.tool_calls), EXPECTED);
});

Deno.test("serve: text before a call is told as soon as it is text", () => {
  const tools = new ToolText({ names: ["weather"], most: Infinity });
  assert.deepEqual(["He", "llo <", "tool", "_x> <tool_"].map((text) => tools.push(text)), [
    "He",
    "llo ",
    "",
    "<tool_x> ",
  ]);
  tools.push(`call>${CALL}</tool_call>`);
  assert.deepEqual(named(tools.end().calls), EXPECTED);
});

serverTest(
  "wrong tools are refused, and those of a template without",
  {},
  async ({ post, told }) => {
    const wrong: [Record<string, unknown>, string, RegExp][] = [
      [chat({ tools: TOOLS }), "tools", /template alpaca knows none/],
      [chat({ tool_choice: "required" }), "tool_choice", /there are no tools/],
      [
        chat({ tools: TOOLS, tool_choice: { type: "function", function: { name: "x" } } }),
        "tool_choice",
        /no tool "x"/,
      ],
      [chat({ tools: [{ type: "web" }] }), "tools[0].type", /./],
      [chat({ tools: TOOLS, tool_choice: "any" }), "tool_choice", /expected none, auto, required/],
    ];
    const strict = {
      name: "s",
      strict: true,
      parameters: { type: "object", patternProperties: {} },
    };
    wrong.push([
      chat({ tools: [{ type: "function", function: strict }], tool_choice: "required" }),
      "tools",
      /patternProperties/,
    ]);
    for (const [body, param, message] of wrong) {
      const { status, text } = await post("/v1/chat/completions", body),
        { error } = JSON.parse(text);
      assert.deepEqual([status, error.param], [400, param], text);
      assert.match(error.message, message);
    }
    assert.deepEqual(told, []);
  },
);

gpuTest(
  "serve: openai's client gets calls that have to be made, valid by their schema",
  async () => {
    const command = startLorikeet("serve", ["--model", MODEL, "--gpu", "deno", "--port", "0"]);
    try {
      const baseURL = (await addressOf(command)).href;
      const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
      const ask = async (tool_choice: OpenAI.ChatCompletionToolChoiceOption, seed: number) => {
        const { choices: [{ message, finish_reason }] } = await client.chat.completions.create({
          model: "tools",
          messages: [{ role: "user", content: "How is it in Rio?" }],
          tools: TOOLS,
          tool_choice,
          seed,
          temperature: 2,
          max_tokens: 200,
        });
        assert.equal(finish_reason, "tool_calls");
        const [call] = message.tool_calls ?? [];
        assert.ok(call?.type === "function");
        const schema = call.function.name === "weather" ? WEATHER : TREE;
        assert.equal(
          faultOf(schema, JSON.parse(call.function.arguments)),
          undefined,
          call.function.arguments,
        );
        return call.function.name;
      };
      const weather = { type: "function" as const, function: { name: "weather" } };
      const all = await Promise.all(
        Array.from({ length: 8 }, (_, i) => ask(i % 2 === 0 ? weather : "required", i)),
      );
      assert.ok(all.filter((_, i) => i % 2 === 0).every((name) => name === "weather"));
    } finally {
      await end(command);
    }
  },
);
