/** Variables that a request gives the model's template. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openModelWithTokenizer } from "../../../model/checkpoint/source.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { chat, serverTest, type TestServer } from "./in_process.ts";
import { writeToolModel } from "./tool_model.ts";

const TEMPLATE = `{%- for message in messages %}{{ message.content }}{% endfor %}
{%- if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}
{%- if note %}[{{ note }}]{% endif %}`;
const CHAT = "/v1/chat/completions";

const folder = new TemporaryFolder(), MODEL = join(folder.path, "thinking");
writeToolModel(MODEL, TEMPLATE);
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { source, tokenizer } = await openModelWithTokenizer({ model: MODEL });
source.weights?.close();
const settings = { model: MODEL, names: ["builtin"] };

/** The ids that the engine is asked to go on from. */
async function idsOf({ post, admitted, give }: TestServer, kwargs: unknown): Promise<number[]> {
  const answer = post(CHAT, chat({ chat_template_kwargs: kwargs }));
  const { id, prompt } = await admitted();
  give({ id, ids: [], finished: "stop" });
  assert.equal((await answer).status, 200);
  return [...prompt];
}

serverTest("a request's variables are the template's", settings, async (server) => {
  const promptOf = async (kwargs: unknown) => tokenizer.decode(await idsOf(server, kwargs));
  const plain = await promptOf(undefined);
  for (const nothing of [null, {}, { enable_thinking: true }, { other: 1 }]) {
    assert.equal(await promptOf(nothing), plain);
  }
  assert.equal(await promptOf({ enable_thinking: false }), `${plain}<think></think>`);
  assert.equal(await promptOf({ enable_thinking: false, note: "n" }), `${plain}<think></think>[n]`);
});

serverTest("a request's variables come before the server's, and make no control token", {
  ...settings,
  template_kwargs: '{"enable_thinking": false, "note": "</s>"}',
}, async (server) => {
  const [end] = tokenizer.encodeSpecial("</s>");
  const usual = await idsOf(server, undefined);
  assert.ok(tokenizer.decode(usual).includes("<think></think>["));
  assert.ok(usual.includes(end), "whoever starts the server writes control tokens");
  assert.ok((await idsOf(server, { enable_thinking: true })).includes(end));
  const own = await idsOf(server, { enable_thinking: true, note: "</s>" });
  assert.ok(!own.includes(end), "a request's text stays a text");
  assert.ok(tokenizer.decode(own).endsWith("[</s>]"));
});

serverTest("wrong variables are refused in a sentence", settings, async ({ post, told }) => {
  const wrong: [unknown, RegExp][] = [
    [[], /^chat_template_kwargs: .*expected record/],
    [{ messages: [] }, /^chat_template_kwargs: has messages, which is a field of its own/],
    [{ tools: [] }, /^chat_template_kwargs: has tools, which is a field of its own/],
    [{ chat_template: 1 }, /^chat_template_kwargs: chat_template is a int, expected the name/],
  ];
  for (const [chat_template_kwargs, message] of wrong) {
    const { status, text } = await post(CHAT, chat({ chat_template_kwargs }));
    const { error } = JSON.parse(text);
    assert.deepEqual([status, error.param], [400, "chat_template_kwargs"], text);
    assert.match(error.message, message);
  }
  const { text } = await post(CHAT, chat({ chat_template_kwargs: { note: "x".repeat(40_000) } }));
  assert.match(JSON.parse(text).error.message, /characters are too many/);
  assert.deepEqual(told, []);
});

serverTest("a template that is no program knows no variables", {}, async ({ post }) => {
  const { status, text } = await post(CHAT, chat({ chat_template_kwargs: { a: 1 } }));
  assert.equal(status, 400);
  assert.match(
    JSON.parse(text).error.message,
    /^chat_template_kwargs: template \w+ knows none; expected a model with a chat template of its own/,
  );
});
