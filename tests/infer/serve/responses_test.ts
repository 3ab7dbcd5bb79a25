/** Responses with functions, by npm's openai and the AI SDK, of an engine that the test is. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { createOpenAI } from "ai-openai";
import OpenAI from "openai";
import { openModelWithTokenizer } from "../../../model/checkpoint/source.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { serverTest, type TestServer } from "./in_process.ts";
import { writeToolModel } from "./tool_model.ts";

const folder = new TemporaryFolder(), MODEL = join(folder.path, "tools");
writeToolModel(MODEL);
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { source, tokenizer } = await openModelWithTokenizer({ model: MODEL });
source.weights?.close();

const settings = { model: MODEL, names: ["tools"], context: 1024 };
const CITY = { type: "object" as const, properties: { city: { type: "string" as const } } };
const PARAMETERS = { ...CITY, required: ["city"], additionalProperties: false as const };
const WEATHER = {
  type: "function" as const,
  name: "weather",
  description: "How it is.",
  parameters: PARAMETERS,
  strict: true,
};
const CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Rio"}}</tool_call>';
const QUESTION = "How is it in Rio?";

/** What a response said, as part of the next request; the types of other tools' items don't agree. */
const sentBack = (output: OpenAI.Responses.ResponseOutputItem[]) =>
  output as OpenAI.Responses.ResponseInputItem[];

const clientOf = ({ port }: TestServer) =>
  new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "none", maxRetries: 0 });

/** Writes a text as the engine's next answer; returns what it was asked. */
async function write({ admitted, give }: TestServer, text: string): Promise<string> {
  const { id, prompt } = await admitted(), ids = tokenizer.encode(text);
  for (let i = 0; i < ids.length; i += 3) give({ id, ids: ids.slice(i, i + 3) });
  give({ id, ids: [], finished: "stop" });
  return tokenizer.decode(prompt);
}

serverTest(
  "openai's client calls a function and gives its result back",
  settings,
  async (server) => {
    const client = clientOf(server), asked = { model: "tools", tools: [WEATHER] };
    const first = client.responses.create({ ...asked, input: QUESTION });
    assert.match(await write(server, `I look.\n${CALL}`), /^Tools:\{.*"weather".*\}user: How/);
    const response = await first, [message, call] = response.output;
    assert.equal(response.status, "completed");
    assert.equal(response.output_text.trim(), "I look.");
    assert.ok(message.type === "message" && call.type === "function_call");
    assert.deepEqual([call.name, JSON.parse(call.arguments)], ["weather", { city: "Rio" }]);
    const output = {
      type: "function_call_output" as const,
      call_id: call.call_id,
      output: "Warm.",
    };
    const second = client.responses.create({
      ...asked,
      instructions: "Be brief.",
      input: [{ role: "user", content: QUESTION }, ...sentBack(response.output), output],
    });
    const prompt = await write(server, "It is warm.");
    assert.match(prompt, /system: Be brief\.user: How is it in Rio\?assistant: I look\./);
    assert.ok(prompt.includes(CALL) && prompt.endsWith("tool: Warm.assistant:"), prompt);
    assert.equal((await second).output_text, "It is warm.");
    assert.deepEqual((await second).output.map(({ type }) => type), ["message"]);
  },
);

serverTest("openai's client streams calls of functions", settings, async (server) => {
  const client = clientOf(server);
  for (
    const [text, types] of [
      [`I look.\n${CALL}${CALL}`, ["message", "function_call", "function_call"]],
      [CALL, ["function_call"]],
      ["It is warm.", ["message"]],
    ] as const
  ) {
    const stream = client.responses.stream({ model: "tools", tools: [WEATHER], input: QUESTION });
    const seen: string[] = [], numbers: number[] = [];
    let deltas = "", said = "";
    stream.on("event", ({ type, sequence_number }) => {
      seen.push(type);
      numbers.push(sequence_number);
    });
    stream.on("response.function_call_arguments.delta", ({ delta }) => deltas += delta);
    stream.on("response.output_text.delta", ({ delta }) => said += delta);
    await write(server, text);
    const { output, output_text, status } = await stream.finalResponse();
    assert.deepEqual(output.map(({ type }) => type), types);
    assert.equal(output_text, said);
    assert.equal(said.trim(), text.replaceAll(CALL, "").trim());
    assert.equal(status, "completed");
    const calls = output.flatMap((item) => item.type === "function_call" ? [item] : []);
    assert.equal(deltas, calls.map((call) => call.arguments).join(""));
    for (const call of calls) assert.deepEqual(JSON.parse(call.arguments), { city: "Rio" });
    assert.deepEqual(numbers, numbers.map((_, i) => i));
    assert.equal(seen[0], "response.created");
    assert.equal(seen.at(-1), "response.completed");
    const count = (type: string) => seen.filter((one) => one === `response.${type}`).length;
    assert.equal(count("output_item.added"), types.length);
    assert.equal(count("output_item.done"), types.length);
    assert.equal(count("function_call_arguments.done"), calls.length);
    // What a stream has put together may be sent back.
    const again = client.responses.create({
      model: "tools",
      input: [{ role: "user", content: QUESTION }, ...sentBack(output)],
    });
    await write(server, "Yes.");
    assert.equal((await again).output_text, "Yes.");
  }
});

serverTest("the AI SDK calls functions by responses", settings, async (server) => {
  const provider = createOpenAI({ baseURL: clientOf(server).baseURL, apiKey: "none" });
  const asked: string[] = [];
  const weather = tool({
    description: "How it is.",
    inputSchema: jsonSchema<{ city: string }>(PARAMETERS),
    execute: ({ city }) => {
      asked.push(city);
      return "Warm.";
    },
  });
  const options = {
    model: provider.responses("tools"),
    prompt: QUESTION,
    tools: { weather },
    stopWhen: stepCountIs(3),
    // It refers to items by their ids else, and nothing is kept here.
    providerOptions: { openai: { store: false } },
  };
  const whole = generateText(options);
  await write(server, CALL);
  assert.match(await write(server, "It is warm."), /tool: .*Warm\..*assistant:$/);
  assert.equal((await whole).text, "It is warm.");
  const streamed = streamText(options);
  const text = (async () => {
    let text = "";
    for await (const piece of streamed.textStream) text += piece;
    return text;
  })();
  await write(server, `I look. ${CALL}`);
  await write(server, "It is warm.");
  assert.equal((await text).replaceAll(/\s+/g, " "), "I look. It is warm.");
  assert.deepEqual(asked, ["Rio", "Rio"]);
});

serverTest(
  "a function that has to be called is, and wrong ones are refused",
  settings,
  async (server) => {
    const client = clientOf(server), asked = { model: "tools", tools: [WEATHER], input: QUESTION };
    for (
      const tool_choice of ["required" as const, { type: "function" as const, name: "weather" }]
    ) {
      const forced = client.responses.create({ ...asked, tool_choice });
      const { id, grammar } = await server.admitted();
      assert.ok(grammar !== undefined, "the answer has the form of a call");
      const ids = tokenizer.encode('{"name": "weather", "arguments": {"city": "Rio"}}');
      server.give({ id, ids, finished: "length" });
      const { output: [call], status } = await forced;
      assert.ok(call.type === "function_call" && call.name === "weather");
      assert.equal(status, "completed");
    }
    const wrong: [object, string][] = [
      [{ tool_choice: { type: "function", name: "other" } }, "tool_choice"],
      [{ tools: [{ type: "web_search" }] }, "tools[0].type"],
      [{ tools: [{ ...WEATHER, name: "a b" }] }, "tools[0].name"],
      [{ input: [{ type: "reasoning", summary: [] }] }, "input[0].type"],
      [{ input: [{ type: "function_call_output", call_id: "c", output: 1 }] }, "input[0].output"],
      [{ input: [{ type: "item_reference", id: "msg_1" }] }, "input[0].type"],
      [{ input: [] }, "input"],
    ];
    for (const [fields, param] of wrong) {
      const body = { ...asked, ...fields } as OpenAI.Responses.ResponseCreateParamsNonStreaming;
      await assert.rejects(
        client.responses.create(body),
        (error: unknown) => error instanceof OpenAI.BadRequestError && error.param === param,
        param,
      );
    }
  },
);
