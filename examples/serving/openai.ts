/**
 * A model that `lorikeet serve` has, by npm's `openai`: an answer, a stream of one, an answer by a schema, a tool, and the
 * model beside its adapters.
 *
 *     ./lorikeet serve --model path/to/model --adapter mine=runs/<time>/adapter
 *     ./lorikeet deno run --ignore-env --allow-net=127.0.0.1:8080 examples/serving/openai.ts http://127.0.0.1:8080/v1
 *
 * A key for the server comes as the second argument.
 */
import OpenAI from "openai";

const [baseURL = "http://127.0.0.1:8080/v1", apiKey = "none"] = Deno.args;
const client = new OpenAI({ baseURL, apiKey });
const names = (await client.models.list()).data.map(({ id }) => id);
const [model] = names;

const messages = (content: string) => [{ role: "user" as const, content }];

/** One answer, whole. */
async function answer(model: string, content: string): Promise<string> {
  const { choices } = await client.chat.completions.create({
    model,
    messages: messages(content),
    max_tokens: 24,
    temperature: 0,
  });
  return choices[0].message.content ?? "";
}

/** One answer as it is made, and the tokens that it took. */
async function stream(content: string): Promise<void> {
  const parts = await client.chat.completions.create({
    model,
    messages: messages(content),
    max_tokens: 24,
    seed: 1,
    temperature: 0.7,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const { choices, usage } of parts) {
    await Deno.stdout.write(new TextEncoder().encode(choices[0]?.delta.content ?? ""));
    if (usage) console.log(` (${usage.completion_tokens} tokens)`);
  }
}

/** An answer that is valid by a JSON schema, whatever the model would rather say. */
async function structured(
  content: string,
): Promise<{ name: string; legs: number; eats: string[] }> {
  const schema = {
    type: "object",
    properties: {
      name: { type: "string", pattern: "^[A-Z][a-z]{1,11}$" },
      legs: { type: "integer", minimum: 0, maximum: 8 },
      eats: { type: "array", items: { enum: ["seeds", "fish", "mice"] }, minItems: 1, maxItems: 3 },
    },
    required: ["name", "legs", "eats"],
    additionalProperties: false,
  };
  const { choices } = await client.chat.completions.create({
    model,
    messages: messages(content),
    max_tokens: 100,
    response_format: { type: "json_schema", json_schema: { name: "animal", schema, strict: true } },
  });
  return JSON.parse(choices[0].message.content ?? "");
}

/** A function that the model has to call, and its answer to what that gives. */
async function withTool(content: string): Promise<string> {
  const weather = {
    type: "function" as const,
    function: {
      name: "weather",
      description: "The weather in a city.",
      parameters: {
        type: "object",
        properties: { city: { enum: ["Rio", "Oslo"] } },
        required: ["city"],
      },
    },
  };
  const asked: OpenAI.ChatCompletionMessageParam[] = messages(content);
  const shared = { model, tools: [weather], max_tokens: 60 };
  const first = await client.chat.completions.create({
    ...shared,
    messages: asked,
    tool_choice: "required",
  });
  const { message } = first.choices[0], [call] = message.tool_calls ?? [];
  if (call?.type !== "function") throw new Error("the model called nothing");
  const { city } = JSON.parse(call.function.arguments);
  console.log(`weather of ${city}`);
  const result = {
    role: "tool" as const,
    tool_call_id: call.id,
    content: `It is warm in ${city}.`,
  };
  const { choices } = await client.chat.completions.create({
    ...shared,
    messages: [...asked, message, result],
    tool_choice: "none",
  });
  return choices[0].message.content ?? "";
}

const question = "What does a gull eat?";
console.log("answer:", await answer(model, question));
console.log("stream:");
await stream(question);
console.log("structured:", JSON.stringify(await structured("Describe a bird.")));
try {
  console.log("tool:", await withTool("How is the weather in Rio?"));
} catch (error) {
  // A model without a chat template of its own has none for tools.
  if (!(error instanceof OpenAI.BadRequestError)) throw error;
  console.log("tool:", error.message);
}
for (const name of names) console.log(`${name}:`, await answer(name, question));
