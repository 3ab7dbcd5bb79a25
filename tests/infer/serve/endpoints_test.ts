/** The endpoints beside those of answers. */
import assert from "node:assert/strict";
import { COUNTED_PATHS } from "../../../infer/serve/app.ts";
import { serverTest, text } from "./in_process.ts";

serverTest("tokenize and detokenize are each other's reverse", {}, async ({ post, told }) => {
  const json = async (path: string, body: unknown) => {
    const { status, text } = await post(path, body);
    return { status, ...JSON.parse(text) };
  };
  const prompt = "The home of Daisy is the barn.";
  const { tokens, count, max_model_len } = await json("/tokenize", { prompt });
  assert.equal(count, tokens.length);
  assert.equal(max_model_len, 128);
  assert.equal((await json("/detokenize", { tokens })).prompt, prompt);
  const plain = await json("/tokenize", { prompt, add_special_tokens: false });
  assert.deepEqual([1, ...plain.tokens], tokens, "BOS comes first");
  const messages = [{ role: "user", content: prompt }];
  const chat = await json("/tokenize", { messages });
  assert.match((await json("/detokenize", { tokens: chat.tokens })).prompt, /### Instruction:\n/);
  for (const body of [{}, { prompt, messages }]) {
    assert.match((await json("/tokenize", body)).error.message, /expected prompt or messages/);
  }
  assert.match((await json("/detokenize", { tokens: [99999] })).error.message, /no token 99999/);
  assert.equal((await json("/tokenize", { prompt, model: "other" })).status, 404);
  assert.deepEqual(told, []);
});

serverTest(
  "metrics count requests, tokens and times",
  {},
  async ({ post, ask, admitted, give }) => {
    const answer = post("/v1/completions", text());
    const { id, prompt } = await admitted();
    const during = (await ask({ path: "/metrics" })).text;
    assert.match(during, /^lorikeet_answers_running 1$/m);
    give({ id, ids: [5, 6], finished: "length" });
    await answer;
    await ask({ path: "/anything/at/all" });
    const { text: after, headers } = await ask({ path: "/metrics" });
    assert.match(headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
    const expected = [
      'lorikeet_requests_total{path="/v1/completions",status="200"} 1',
      'lorikeet_requests_total{path="other",status="404"} 1',
      "lorikeet_answers_running 0",
      `lorikeet_prompt_tokens_total ${prompt.length}`,
      "lorikeet_answer_tokens_total 2",
      "lorikeet_first_token_seconds_count 1",
      'lorikeet_first_token_seconds_bucket{le="+Inf"} 1',
    ];
    for (const line of expected) assert.ok(after.split("\n").includes(line), `${line}\n${after}`);
    // As Prometheus reads it: a name, labels, and a number.
    for (const line of after.trimEnd().split("\n").filter((line) => !line.startsWith("# "))) {
      assert.match(
        line,
        /^(lorikeet|process)_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [\d.e+-]+$/,
      );
    }
  },
);

serverTest("openapi.json describes every endpoint with its fields", {}, async ({ ask }) => {
  const { openapi, paths } = JSON.parse((await ask({ path: "/openapi.json" })).text);
  assert.equal(openapi, "3.1.0");
  const described = COUNTED_PATHS.filter((path) => path !== "/openapi.json");
  assert.deepEqual(Object.keys(paths).toSorted(), described.toSorted());
  const { schema } = paths["/v1/chat/completions"].post.requestBody.content["application/json"];
  for (const field of ["messages", "temperature", "logit_bias", "response_format"]) {
    assert.ok(field in schema.properties, field);
  }
  assert.deepEqual(schema.required, ["model", "messages"]);
});
