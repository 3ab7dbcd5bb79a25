/** Answers of a form: every one parses and is valid. LORIKEET_SERVE_PROMPTS=200 asks for so many; fewer where nothing is said. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { startLorikeet } from "../../cli/cli.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { addressOf, end } from "../../watch/served.ts";
import { chat, serverTest } from "./in_process.ts";
import { faultOf, SCHEMAS } from "./schemas.ts";

const PROMPTS = Number(Deno.env.get("LORIKEET_SERVE_PROMPTS") ?? 2 * Object.keys(SCHEMAS).length);

gpuTest(
  `serve: ${PROMPTS} answers of schemas parse and are valid, beside others without`,
  async () => {
    const command = startLorikeet("serve", ["--model", "builtin", "--gpu", "deno", "--port", "0"]);
    try {
      const baseURL = (await addressOf(command)).href;
      const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 600_000 });
      const ask = async (content: string, more: object) => {
        const messages = [{ role: "user" as const, content }];
        const asked = { model: "builtin", messages, ...more };
        const { choices: [choice] } = await client.chat.completions.create(asked);
        return choice;
      };
      const plain = { temperature: 0, max_tokens: 12 };
      const expected = await ask("Who is afraid of rain?", plain);
      const schemas = Object.entries(SCHEMAS), began = performance.now();
      const all = Array.from({ length: PROMPTS }, async (_, i) => {
        const [name, schema] = schemas[i % schemas.length];
        const json_schema = { name, schema, strict: i % 2 === 0 };
        // Greedy, as the model likes it, and at random.
        const sampling = { temperature: [0, 1, 5][i % 3], seed: i, max_tokens: 300 };
        const { message: { content }, finish_reason } = await ask(`Question ${i}: who?`, {
          ...sampling,
          response_format: { type: "json_schema", json_schema },
        });
        assert.equal(finish_reason, "stop", `${name}: ${content}`);
        assert.equal(faultOf(schema, JSON.parse(content ?? "")), undefined, `${name}: ${content}`);
      });
      const others = Array.from({ length: 4 }, async () => {
        assert.deepEqual(await ask("Who is afraid of rain?", plain), expected);
      });
      await Promise.all([...all, ...others]);
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      console.log(`    ${PROMPTS} answers of schemas took ${seconds} s`);
      const object = await ask("What?", {
        response_format: { type: "json_object" },
        max_tokens: 200,
      });
      assert.equal(typeof JSON.parse(object.message.content ?? ""), "object");
      // Those of a library that makes the schema, as a stream.
      const stream = client.chat.completions.stream({
        model: "builtin",
        messages: [{ role: "user", content: "Who?" }],
        max_tokens: 200,
        response_format: {
          type: "json_schema",
          json_schema: { name: "person", schema: SCHEMAS.person, strict: true },
        },
      });
      const { choices: [{ message }] } = await stream.finalChatCompletion();
      assert.equal(faultOf(SCHEMAS.person, JSON.parse(message.content ?? "")), undefined);
    } finally {
      await end(command);
    }
  },
);

serverTest("a form that can't be kept is refused with its place", {}, async ({ post, told }) => {
  const form = (schema: unknown) => ({ type: "json_schema", json_schema: { name: "x", schema } });
  const wrong: [Record<string, unknown>, string, RegExp][] = [
    [
      { response_format: form({ type: "integer", multipleOf: 2 }) },
      "response_format.json_schema.schema",
      /\.multipleOf: can't be kept/,
    ],
    [
      { response_format: form({ type: "object", patternProperties: {} }) },
      "response_format.json_schema.schema",
      /patternProperties/,
    ],
    [{ response_format: { type: "xml" } }, "response_format.type", /./],
    [
      { response_format: { type: "json_object" }, ignore_eos: true },
      "ignore_eos",
      /ends where the form does/,
    ],
  ];
  for (const [fields, param, message] of wrong) {
    const { status, text } = await post("/v1/chat/completions", chat(fields));
    const { error } = JSON.parse(text);
    assert.equal(status, 400, text);
    assert.equal(error.param, param, text);
    assert.match(error.message, message);
  }
  assert.deepEqual(told, []);
});
