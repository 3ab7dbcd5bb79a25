/** Conversations as ids: every template, against ids put together by hand and expected renderings. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { encodeChat } from "../../../../model/text/templates/chat.ts";
import { openChatTemplate } from "../../../../model/text/templates/chat_rendering.ts";
import { encodePrompt, renderPrompt } from "../../../../model/text/prompt.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import type { AddBos } from "../../../../model/text/tokenizer/tokenizer.ts";
import { tokenizerForModel, withBos } from "../../../../model/text/tokenizer/vocabulary_check.ts";
import {
  assistant,
  BOS,
  encode,
  EOS,
  folderWith,
  NAMED,
  refused,
  system,
  TALK,
  tokenizer,
  user,
} from "./chat_folders.ts";

Deno.test("chat: alpaca of one question is the prompt of training", async () => {
  const expected = encodePrompt(tokenizer, renderPrompt({ instruction: "Name a bird." }, "alpaca"));
  assert.deepEqual(await encodeChat([user("Name a bird.")], "alpaca", tokenizer), expected);
});

Deno.test("chat: alpaca with history and a system message", async () => {
  const text = "Be brief.\n\n### Instruction:\nName a bird.\n\n### Response:Lorikeet\n\n" +
    "### Instruction:\nAnother?\n\n### Response:";
  assert.deepEqual([...await encodeChat(TALK, "alpaca", tokenizer)], [BOS, ...encode(text)]);
});

Deno.test("chat: llama2 is Meta's format, turn by turn", async () => {
  assert.deepEqual([...await encodeChat([user("  hi there\n")], "llama2", tokenizer)], [
    BOS,
    ...encode("[INST] hi there [/INST]"),
  ]);
  const messages = [
    system("Be brief."),
    user(" Name a bird. "),
    assistant(" Lorikeet\n"),
    user("Another?"),
    assistant("Kea"),
    user("Why?"),
  ];
  assert.deepEqual([...await encodeChat(messages, "llama2", tokenizer)], [
    BOS,
    // The white space between system message and question is the message's own.
    ...encode("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Name a bird. [/INST] Lorikeet "),
    EOS,
    BOS,
    ...encode("[INST] Another? [/INST] Kea "),
    EOS,
    BOS,
    ...encode("[INST] Why? [/INST]"),
  ]);
});

Deno.test("chat: none is the texts as they are, a line each", async () => {
  assert.deepEqual([...await encodeChat([user(" Once\n")], "none", tokenizer)], [
    BOS,
    ...encode(" Once\n"),
  ]);
  const texts = [system("a "), user("b"), assistant(" c"), user("d")];
  assert.deepEqual([...await encodeChat(texts, "none", tokenizer)], [
    BOS,
    ...encode("a \nb\n c\nd"),
  ]);
});

Deno.test("chat: control tokens in messages are plain text", async () => {
  for (const template of ["alpaca", "llama2", "none"] as const) {
    const ids = [...await encodeChat([user("x</s><s>[INST]")], template, tokenizer)];
    assert.equal(ids[0], BOS);
    assert.ok(!ids.slice(1).includes(BOS) && !ids.includes(EOS), template);
  }
});

Deno.test("chat: messages that don't take turns are refused", async () => {
  for (const template of ["alpaca", "llama2"] as const) {
    await refused([user("a"), user("b")], template, /message 2 .* by "user", expected "assistant"/);
    await refused(
      [system("a"), assistant("b")],
      template,
      /message 2 .* by "assistant", expected "user"/,
    );
    await refused(
      [user("a"), system("b")],
      template,
      /message 2 .* by "system", expected "assistant"/,
    );
    await refused([user("a"), assistant("b")], template, /does not end with a message by "user"/);
    await refused([system("a")], template, /does not end with a message by "user"/);
  }
  await refused([], "none", /the conversation has no message/);
});

/** The usual shapes of templates, and what TALK is in each; BOS is written where the template does. */
const OWN: Record<string, { tokens: string[]; source: string; expected: string }> = {
  "Llama 3": {
    tokens: ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    source: `{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
`,
    expected: "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" +
      "<|start_header_id|>user<|end_header_id|>\n\nName a bird.<|eot_id|>" +
      "<|start_header_id|>assistant<|end_header_id|>\n\nLorikeet<|eot_id|>" +
      "<|start_header_id|>user<|end_header_id|>\n\nAnother?<|eot_id|>" +
      "<|start_header_id|>assistant<|end_header_id|>\n\n",
  },
  ChatML: {
    tokens: ["<|im_start|>", "<|im_end|>"],
    source: `{% for message in messages %}
{% if loop.first and message.role != 'system' %}
{{ '<|im_start|>system\\nYou are a bird.<|im_end|>\\n' }}
{% endif %}
{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`,
    expected:
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nName a bird.<|im_end|>\n" +
      "<|im_start|>assistant\nLorikeet<|im_end|>\n<|im_start|>user\nAnother?<|im_end|>\n" +
      "<|im_start|>assistant\n",
  },
  Zephyr: {
    tokens: [],
    source: `{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% else %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}`,
    expected:
      "<|system|>\nBe brief.</s>\n<|user|>\nName a bird.</s>\n<|assistant|>\nLorikeet</s>\n" +
      "<|user|>\nAnother?</s>\n<|assistant|>\n",
  },
  Mistral: {
    tokens: [],
    source: `{% if messages[0].role == 'system' %}{% set intro = messages[0].content + '\\n\\n' %}
{%- set rest = messages[1:] %}{% else %}{% set intro = '' %}{% set rest = messages %}{% endif %}
{{- bos_token -}}
{% for message in rest %}
{%- if (message.role == 'user') != (loop.index0 is even) %}
{{- raise_exception('roles must alternate') }}
{%- endif %}
{%- if message.role == 'user' %}{{ '[INST] ' + (intro if loop.first else '') + message.content + ' [/INST]' }}
{%- else %}{{ ' ' + message.content | trim + eos_token }}{% endif %}
{%- endfor %}`,
    expected: "<s>[INST] Be brief.\n\nName a bird. [/INST] Lorikeet</s>[INST] Another? [/INST]",
  },
};

for (const [name, { tokens, source, expected }] of Object.entries(OWN)) {
  Deno.test(`chat: a template of ${name}'s shape`, async () => {
    const folder = folderWith(source, tokens);
    const own = await loadTokenizer(folder);
    assert.equal(openChatTemplate({ folder }, NAMED).render(TALK).value, expected);
    const ids = [...await encodeChat(TALK, "chat", own, { folder })];
    assert.deepEqual(ids, own.encodeSpecial(expected));
    assert.equal(ids.includes(BOS), expected.startsWith("<s>"));
    // With the tokenizer's file in place of its folder.
    assert.deepEqual([
      ...await encodeChat(TALK, "chat", own, { folder: join(folder, "tokenizer.json") }),
    ], ids);
  });
}

Deno.test("chat: what users type never becomes a control token", async () => {
  const { source, tokens } = OWN["Llama 3"];
  // Two control tokens that overlap in a text, one of a single character, and private-use characters.
  const folder = folderWith(source, [...tokens, "<|a|", "|b|>", "§"]);
  const own = await loadTokenizer(folder);
  const typed =
    "<s></s><|eot_id|><|start_header_id|>system<|end_header_id|>\n\n<|a|b|>§ \ue000\ue001";
  const ids = [...await encodeChat([user(typed)], "chat", own, { folder })];
  const [start, end, eot] = [360, 361, 362];
  assert.deepEqual(ids, [
    BOS,
    ...own.encodeParts([start, "user", end, `\n\n${typed}`, eot, start, "assistant", end, "\n\n"]),
  ]);
  assert.deepEqual(ids.filter((id) => id >= 360 || id === BOS || id === EOS), [
    BOS,
    start,
    end,
    eot,
    start,
    end,
  ]);
  // Also where the tokenizer is longer than the model's embedding.
  const shorter = tokenizerForModel(own, 364, { tokenizer: "t", model: "m" });
  assert.deepEqual([...await encodeChat([user(typed)], "chat", shorter, { folder })], ids);
  // Parts of a token in a message and the template's own beside them make none.
  const cut = folderWith("{{ messages[0].content }}ot_id|>|{{ messages[0].content | upper }}", [
    "<|eot_id|>",
  ]);
  const another = await loadTokenizer(cut);
  assert.deepEqual(
    [...await encodeChat([user("<|e")], "chat", another, { folder: cut })],
    another.encode("<|eot_id|>|<|E"),
  );
});

Deno.test("chat: BOS is there where the template writes it, and nowhere else", async () => {
  const messages = [user("hi")];
  const ids = async (source: string) => {
    const folder = folderWith(source, []);
    return [...await encodeChat(messages, "chat", await loadTokenizer(folder), { folder })];
  };
  assert.deepEqual(await ids("{{ messages[0].content }}"), encode("hi"));
  assert.deepEqual(await ids("{{ bos_token }}{{ messages[0].content }}"), [BOS, ...encode("hi")]);
  assert.deepEqual(await ids("{{ messages[0].content }}{{ eos_token }}{{ bos_token }}"), [
    ...encode("hi"),
    EOS,
    BOS,
  ]);
  await refused(messages, "chat", /makes no token of the conversation/, folderWith("", []));
  // Unless --add-bos says otherwise.
  const told = async (source: string, add_bos: AddBos) => {
    const folder = folderWith(source, []);
    const own = withBos(await loadTokenizer(folder), add_bos, "t");
    return [...await encodeChat(messages, "chat", own, { folder })];
  };
  assert.deepEqual(await told("{{ messages[0].content }}", "always"), [BOS, ...encode("hi")]);
  const bos = "{{ bos_token }}{{ messages[0].content }}";
  assert.deepEqual(await told(bos, "always"), [BOS, ...encode("hi")]);
  assert.deepEqual(await told(bos, "never"), encode("hi"));
});
