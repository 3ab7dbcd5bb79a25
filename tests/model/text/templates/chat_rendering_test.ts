/** Where a model's own template is found, what it is given, and what it can't do. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import { openChatTemplate, readMessages } from "../../../../model/text/templates/chat_rendering.ts";
import { findChatTemplate } from "../../../../model/text/templates/chat_template.ts";
import { folderOf, folderWith, NAMED, refused, root, TALK, user } from "./chat_folders.ts";

Deno.test("chat: where a template is from", async () => {
  const source = (folder: string, choice = {}) => findChatTemplate(folder, choice).source;
  const config = (chat_template: unknown) => ({ "tokenizer_config.json": { chat_template } });
  const jinja = { "chat_template.jinja": "b" };
  const more = (name: string, text: string) => ({ [`additional_chat_templates/${name}`]: text });
  assert.equal(source(folderOf(config("a"))), "a");
  assert.equal(source(folderOf({ ...config("a"), ...jinja })), "b");
  assert.equal(source(folderOf({ "chat_template.json": { chat_template: "c" } })), "c");
  const older = { "chat_template.json": { chat_template: "c" }, ...config("a") };
  assert.equal(source(folderOf(older)), "a");

  const named = [{ name: "tool_use", template: "t" }, { name: "default", template: "d" }];
  for (const given of [named, { tool_use: "t", default: "d" }]) {
    const folder = folderOf(config(given));
    assert.equal(source(folder), "d");
    assert.equal(source(folder, { tools: true }), "t");
    assert.equal(source(folder, { tools: true, name: "default" }), "d");
  }
  const files = folderOf({ ...jinja, ...more("tool_use.jinja", "u"), ...more("note.txt", "n") });
  assert.equal(source(files), "b");
  assert.equal(source(files, { tools: true }), "u");
  assert.throws(
    () => source(files, { name: "rag" }),
    /no chat template named "rag", only \["default","tool_use"\]; choose one with --template-kwargs/,
  );
  // Files hide what the configuration holds, also where they have no default.
  const hidden = folderOf({ ...config("a"), ...more("rag.jinja", "r") });
  assert.equal(source(hidden, { name: "rag" }), "r");
  await refused(TALK, "chat", /no chat template named "default", only \["rag"\]/, hidden);

  const onlyTools = folderOf(config(named.slice(0, 1)));
  await refused(TALK, "chat", /no chat template named "default", only \["tool_use"\]/, onlyTools);
  await refused(TALK, "chat", /chat_template is 3, expected a text/, folderOf(config(3)));
  await refused(
    TALK,
    "chat",
    /chat_template is \[\{"name"/,
    folderOf(config([{ name: "default" }])),
  );
  const none =
    /tokenizer_config\.json has no chat_template, nor .* alpaca, llama2, chatml and none, or a file/;
  await refused(TALK, "chat", none, folderOf(config(undefined)));
  const bare = folderOf({ "config.json": {} });
  await refused(
    TALK,
    "chat",
    /tokenizer_config\.json does not exist, nor is there a chat_template/,
    bare,
  );
  await refused(TALK, "chat", /template chat needs a model with a folder of its own/);
  await refused(TALK, "chat", /cannot read .*missing: it does not exist/, join(root, "missing"));
  const bytes = folderOf(jinja);
  Deno.writeFileSync(join(bytes, "chat_template.jinja"), Uint8Array.of(0xff, 0xfe));
  await refused(TALK, "chat", /chat_template\.jinja: is not UTF-8 text/, bytes);
});

Deno.test("chat: a template that fails is refused by its file and line", async () => {
  const fails = async (source: string, message: RegExp) => {
    const folder = folderWith(undefined, [], source);
    const named = new RegExp(`chat_template\\.jinja: .*${message.source}`);
    await refused(TALK, "chat", named, folder);
  };
  await fails("{{ raise_exception('only birds') }}", /refuses the conversation: only birds$/);
  await fails("\n{% if %}", /line 2, can't be rendered: expected an expression, got '%}'$/);
  await fails("a\n\n{{ messages | nosuch }}", /line 3, .* there is no filter 'nosuch'$/);
  await fails("{{ messages.nosuch() }}", /line 1, .* 'list object' has no attribute 'nosuch'$/);
  await fails("{{ messages[0].content + 1 }}", /can only concatenate str \(not "int"\) to str$/);
  await fails("{% include 'other' %}", /'include' needs another template/);
  await fails(
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    /more than .* (steps|seconds|characters and items)$/,
  );
  await fails(
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    /macros call each other more than/,
  );
  await fails("{{ 'long' * 99999999 }}", /a text is repeated too often$/);
  await fails("{{ 9 ** 9 ** 9 ** 99 }}", /more than 20000 bits$/);
  await fails("{{ " + "(".repeat(5000) + "1" + ")".repeat(5000) + " }}", /levels deep$/);
});

Deno.test("chat: templates reach nothing but what they are given", async () => {
  const render = (source: string) => rendered(source);
  for (const name of ["__class__", "__proto__", "constructor", "prototype", "toString"]) {
    for (const value of ["''", "[]", "{}", "1", "messages", "range", "namespace()", "none"]) {
      assert.equal(render(`{{ (${value}).${name} is defined }}`), "False", `${value}.${name}`);
      assert.equal(render(`{{ (${value})['${name}'] is defined }}`), "False", `${value}[${name}]`);
    }
    assert.equal(render(`{{ ${name} is defined }}`), "False");
    // A dictionary's own class comes before an item of that name, and is kept from templates.
    const item = name === "__class__" ? "" : "1";
    assert.equal(render(`{{ {'${name}': 1}.${name} }}`), item);
  }
  const unsafe = (source: string) =>
    assert.throws(() => render(source), /access to attribute '\w+' of '\w+' object is unsafe/);
  unsafe("{{ [1].append(2) }}");
  unsafe("{{ {}.update(a=1) }}");
  unsafe("{{ ''.__class__.__mro__ }}");
  await refused(TALK, "chat", /is unsafe/, folderWith("{{ messages.pop() }}", []));
});

/** What a template makes of a greeting. */
function rendered(source: string, inputs: { tools?: string; variables?: string } = {}): string {
  const folder = folderOf({ "chat_template.jinja": source });
  const json = (text: string | undefined, name: string) => text ? { json: text, name } : undefined;
  const { tools, variables } = inputs;
  const given = {
    folder,
    tools: json(tools, "tools.json"),
    variables: json(variables, "--kwargs"),
  };
  const now = () => new Date(2026, 0, 7, 15, 4, 5);
  return openChatTemplate(given, NAMED, now).render([user("hi")]).value;
}

Deno.test("chat: templates see what transformers gives them", () => {
  assert.equal(rendered("{{ bos_token ~ eos_token }}"), "<s></s>");
  assert.equal(rendered("{{ pad_token is defined }}"), "False");
  assert.equal(rendered("{{ 'yes' if add_generation_prompt is true else 'no' }}"), "yes");
  const unset = "tools is defined and tools is none and documents is none";
  assert.equal(rendered(`{{ 'yes' if ${unset} else 'no' }}`), "yes");
  // Blocks take the white space before them on their line and the newline after.
  assert.equal(rendered("a\n  {% if true %}\nb\n  {% endif %}\nc"), "a\nb\nc");
  assert.equal(rendered("{{ strftime_now('%d %b %Y') }}"), "07 Jan 2026");
});

Deno.test("chat: tools and variables of the template", () => {
  const tools = '[{"type": "function", "function": {"name": "add", "n": 1.0, "2": 1, "1": 2}}]';
  const shown = "{{ tools | tojson }}";
  assert.equal(rendered(shown, { tools }), tools);
  assert.equal(
    rendered("{{ think }}{{ n }}", { variables: '{"think": false, "n": 1e3}' }),
    "False1000.0",
  );
  assert.equal(rendered("{{ bos_token }}", { variables: '{"bos_token": "B"}' }), "B");
  const off = '{"add_generation_prompt": false, "documents": [{"text": "d"}]}';
  assert.equal(
    rendered("{{ add_generation_prompt }}{{ documents[0].text }}", { variables: off }),
    "Falsed",
  );
  const wrong = (inputs: { tools?: string; variables?: string }, message: RegExp) =>
    assert.throws(
      () => rendered("x", inputs),
      (error) => error instanceof UserError && message.test(error.message),
    );
  wrong({ tools: "{}" }, /^tools\.json: is a dict, expected a list of tools$/);
  wrong({ tools: "[3]" }, /^tools\.json: tool 1 is a int, expected an object/);
  wrong({ tools: "[" }, /^tools\.json: is not JSON: line 1, column 2: expected a value$/);
  wrong({ variables: "[]" }, /^--kwargs: is a list, expected an object/);
  wrong({ variables: "{'a': 1}" }, /^--kwargs: is not JSON: line 1, column 2: expected a key/);
  wrong(
    { variables: '{"messages": []}' },
    /^--kwargs: has messages, which are given with --prompt/,
  );
  wrong({ variables: '{"chat_template": "rag"}' }, /no chat template named "rag"/);
  wrong({ variables: '{"chat_template": 1}' }, /chat_template is a int, expected the name/);
});

Deno.test("chat: messages of a file keep their fields", async () => {
  const read = (json: string) => readMessages({ json, name: "talk.json" });
  const parts = '[{"role": "user", "content": [{"type": "text", "text": " a "}], "name": "Ann"}]';
  const [message] = read(parts);
  assert.equal(message.role, "user");
  assert.equal(message.content, null);
  const folder = folderOf({
    "chat_template.jinja":
      "{% for m in messages %}{{ m.role }}:{{ m.name }}:{{ m.content | tojson }}{% endfor %}",
  });
  const render = (json: string) => openChatTemplate({ folder }, NAMED).render(read(json)).value;
  assert.equal(render(parts), 'user:Ann:[{"type": "text", "text": " a "}]');
  assert.equal(render('{"messages": [{"role": "boss", "content": " "}]}'), 'boss::" "');
  await refused([message], "alpaca", /message 1 .* no text as its content, which template alpaca/);
  const wrong = (json: string, expected: RegExp) =>
    assert.throws(
      () => read(json),
      (error) => error instanceof UserError && expected.test(error.message),
    );
  wrong("{}", /^talk\.json: is a dict, expected a list of messages/);
  wrong('{"messages": [], "x": 1}', /^talk\.json: is a dict with messages, x, expected/);
  wrong("[]", /^talk\.json: has no message$/);
  wrong('[{"content": "a"}]', /^talk\.json: message 1 has no role, expected an object with role/);
  wrong('[{"role": "user"}, 3]', /^talk\.json: message 2 is a int, expected an object/);
  wrong("[1,]", /^talk\.json: is not JSON: line 1, column 4: expected a value$/);
});
