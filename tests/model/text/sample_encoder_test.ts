import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { parseSamples } from "../../../model/text/data/load.ts";
import { encodeChat } from "../../../model/text/templates/chat.ts";
import { describeSample, encodeSample, supervisedTokens } from "../../../model/text/prompt.ts";
import { isChat, type Sample } from "../../../model/text/sample.ts";
import { type EncodingOptions, SampleEncoder } from "../../../model/text/sample_encoder.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { withBos } from "../../../model/text/tokenizer/vocabulary_check.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { fixturePath } from "../../fixtures.ts";

const tokenizerPath = fixturePath("chat_masks");
const tokenizer = await loadTokenizer(tokenizerPath);

const folder = new TemporaryFolder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
let files = 0;
const templateFile = (source: string) => folder.file(`${files++}.jinja`, source);

/** ChatML's shape. */
const PLAIN = `{% for m in messages %}{{ '<|begin|>' + m.role + '\\n' + m.content + '<|end|>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant\\n' }}{% endif %}`;
const plain = templateFile(PLAIN);

type Options = Partial<EncodingOptions> & { maxLength?: number };

function encoderOf({ maxLength: _, ...options }: Options) {
  return new SampleEncoder(tokenizer, { tokenizerPath, ...options });
}

async function encode(encoder: SampleEncoder, sample: Sample, maxLength = 1e6) {
  await encoder.openFor(sample);
  return encoder.encode(sample, maxLength);
}

/** What a row's samples are, with what is not learnt in brackets. */
async function shown(row: unknown, options: Options = {}): Promise<string> {
  const [sample] = parseSamples(JSON.stringify([row]), "some.json").samples;
  const encoded = await encode(encoderOf(options), sample, options.maxLength);
  return describeSample(tokenizer, encoded).codes;
}

const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown, more = {}) => ({ role: "assistant", content, ...more });
const TALK = { messages: [user("Hi"), assistant("Hello"), user("And?"), assistant("Bye")] };

Deno.test("encoder: the last answer, all answers, or every token but the first", async () => {
  const turn = (role: string, text: string) => `⟨<|begin|>⟩${role}\n${text}`;
  const first = turn("user", "Hi⟨<|end|>⟩\n") + turn("assistant", "");
  const second = turn("user", "And?⟨<|end|>⟩\n") + turn("assistant", "");
  const [hello, bye] = ["Hello⟨<|end|>⟩\n", "Bye⟨<|end|>⟩\n"];
  const of = (train_on: "last" | "assistant" | "all") => shown(TALK, { template: plain, train_on });
  assert.equal(await of("last"), `[${first}${hello}${second}]${bye}`);
  assert.equal(await shown(TALK, { template: plain }), await of("last"));
  assert.equal(await of("assistant"), `[${first}]${hello}[${second}]${bye}`);
  assert.equal(await of("all"), `[⟨<|begin|>⟩]${(first + hello + second + bye).slice(11)}`);
  // Of a prompt nothing is learnt; of what completes it, what is asked for.
  const row = { prompt: TALK.messages.slice(0, 1), completion: TALK.messages.slice(1) };
  const completes = (train_on: "last" | "assistant" | "all") =>
    shown(row, { template: plain, train_on });
  assert.equal(await completes("last"), await of("last"));
  assert.equal(await completes("assistant"), await of("assistant"));
  assert.equal(await completes("all"), `[${first}]${hello}${second}${bye}`);
  // Weights leave answers out.
  const weighed = { messages: TALK.messages.map((m, i) => i === 3 ? { ...m, weight: 0 } : m) };
  assert.equal(
    await shown(weighed, { template: plain }),
    `[${first}]${hello}[${second}${bye}]`,
  );
});

Deno.test("encoder: blank answers end a turn among others, and are nothing alone", async () => {
  const talk = { messages: [...TALK.messages.slice(0, 3), assistant("")] };
  assert.match(await shown(talk, { template: plain, train_on: "assistant" }), /\]⟨<\|end\|>⟩\n$/);
  assert.match(await shown(talk, { template: plain }), /^\[[^\]]*\]$/);
  const alone = { messages: [user("Hi"), assistant("")] };
  assert.match(await shown(alone, { template: plain, train_on: "assistant" }), /^\[[^\]]*\]$/);
  assert.match(await shown({ messages: [user("Hi")] }, { template: plain }), /^\[[^\]]*\]$/);
});

Deno.test("encoder: a cut keeps the targets that are left", async () => {
  const [sample] = parseSamples(JSON.stringify([TALK]), "some.json").samples;
  const encoder = encoderOf({ template: plain, train_on: "assistant" });
  const whole = await encode(encoder, sample), [[begin, end], [next]] = whole.targets;
  for (let length = 1; length <= whole.ids.length; length++) {
    const { ids, targets, truncated } = await encode(encoder, sample, length);
    assert.deepEqual(ids, whole.ids.slice(0, length));
    assert.equal(truncated, length < whole.ids.length);
    const left = whole.targets.map(([from, to]) => [from, Math.min(to, length)])
      .filter(([from, to]) => from < to);
    assert.deepEqual(targets, left);
  }
  assert.ok(begin < end && end < next);
});

Deno.test("encoder: what the prompt of chat is, up to every answer, is not learnt", async () => {
  for (const template of [plain, "chatml", "alpaca", "llama2", "none"]) {
    const [sample] = parseSamples(JSON.stringify([TALK]), "some.json").samples;
    assert.ok(isChat(sample));
    const encoder = encoderOf({ template, train_on: "assistant" });
    const { ids, targets } = await encode(encoder, sample);
    assert.equal(targets.length, 2, template);
    for (const [i, [begin]] of targets.entries()) {
      const messages = sample.messages.slice(0, 2 * i + 1);
      const asked = encoder.prompt({ ...sample, messages });
      assert.deepEqual(ids.slice(0, begin), asked, `${template} ${i}`);
      if (template === plain || template === "chatml") continue;
      const kind = template as "alpaca" | "llama2" | "none";
      assert.deepEqual(ids.slice(0, begin), await encodeChat(messages, kind, tokenizer));
    }
    const isEos = (id: number) => id === tokenizer.eos_id;
    const ends = Array.from(ids, isEos).lastIndexOf(true) === ids.length - 1;
    assert.ok(ends || template === plain || template === "chatml", template);
  }
});

Deno.test("encoder: templates without roles of their own", async () => {
  const of = (template: string) => shown(TALK, { template, train_on: "assistant" });
  assert.equal(
    await of("alpaca"),
    "[Below is an instruction that describes a task. Write a response that appropriately completes " +
      "the request.\n\n### Instruction:\nHi\n\n### Response:]Hello[\n\n### Instruction:\nAnd?\n\n" +
      "### Response:]Bye⟨</s>⟩",
  );
  assert.equal(
    await of("llama2"),
    "[[INST] Hi [/INST]] Hello ⟨</s>⟩[[INST] And? [/INST]] Bye ⟨</s>⟩",
  );
  assert.equal(await of("none"), "[Hi]\nHello[\nAnd?]\nBye⟨</s>⟩");
  // Without control tokens of its own, ChatML needs EOS besides.
  assert.match(await of("chatml"), /\]Hello<\|im_end\|>\n\[.*\]Bye<\|im_end\|>\n⟨<\/s>⟩$/s);
  const refused = { messages: [user("Hi"), { role: "tool", content: "7" }, assistant("a")] };
  const calls = [{ type: "function", function: { name: "f", arguments: {} } }];
  await assert.rejects(
    shown({ messages: [user("a"), assistant("", { tool_calls: calls })] }, { template: "none" }),
    /^UserError: data file "some\.json", row 1 .*: message 2 calls the tool "f", which template none/,
  );
  await assert.rejects(
    shown(refused, { template: "alpaca" }),
    /^UserError: data file "some\.json", row 1 \(line 1\): message 2 .* is by "tool", expected "assis/,
  );
});

Deno.test("encoder: instructions stay in Alpaca's template unless another is named", async () => {
  const sample = { instruction: "Add.", input: "1 2", output: "3" };
  const whole = encodeSample(tokenizer, sample, 1e6);
  const of = (options: Options) => encode(encoderOf(options), sample);
  for (const template of ["auto", "alpaca"]) assert.deepEqual(await of({ template }), whole);
  assert.deepEqual((await of({ train_on: "all" })).targets, [[1, whole.ids.length]]);
  assert.deepEqual(await of({ train_on: "assistant" }), whole);
  assert.equal(
    await shown(sample, { template: plain }),
    "[⟨<|begin|>⟩user\nAdd.\n1 2⟨<|end|>⟩\n⟨<|begin|>⟩assistant\n]3⟨<|end|>⟩\n",
  );
  const history = { ...sample, history: [["One?", "1."]] };
  const turns = await shown(history, { train_on: "assistant" });
  assert.match(turns, /\[Below.*\n\n### Response:\]1\.\[.*### Input:\n1 2\n\n### Response:\]3⟨/s);
  assert.equal(await shown(history), turns.replace("]1.[", "1."));
  // Text without turns is learnt as it is.
  assert.equal(await shown({ prompt: "a", completion: "b" }, { template: plain }), "[a]b⟨</s>⟩");
});

Deno.test("encoder: BOS is there once, whoever writes it", async () => {
  const writes = templateFile("{{ bos_token }}" + PLAIN);
  const bos = tokenizer.bos_id ?? -1;
  for (const [template, written] of [[plain, 0], [writes, 1]] as const) {
    for (const [add_bos, count] of [["auto", written], ["always", 1], ["never", 0]] as const) {
      const own = withBos(tokenizer, add_bos, "t");
      const [sample] = parseSamples(JSON.stringify([TALK]), "some.json").samples;
      const encoder = new SampleEncoder(own, { tokenizerPath, template });
      const { ids, targets } = await encode(encoder, sample);
      assert.equal(ids.filter((id) => id === bos).length, count);
      assert.equal(own.decode([...ids.slice(...targets[0])]), "Bye\n");
    }
  }
});

Deno.test("encoder: messages in the way that the template understands", async () => {
  const roles = templateFile(
    "{% for m in messages %}{% if m.role in ['system', 'user', 'assistant'] %}" +
      "{{ '<|begin|>' + m.role + ':' + (m.content if m.content is string else (m.content | map(attribute='text') | join)) + '<|end|>' }}" +
      "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant:' }}{% endif %}",
  );
  const parts = { messages: [user([{ type: "text", text: "a" }, { type: "text", text: "b" }])] };
  const row = { messages: [...parts.messages, assistant("c")] };
  assert.equal(
    await shown(row, { template: roles }),
    "[⟨<|begin|>⟩user:ab⟨<|end|>⟩⟨<|begin|>⟩assistant:]c⟨<|end|>⟩",
  );
  // A template that takes text alone gets a line each.
  assert.match(await shown(row, { template: plain }), /user\na\nb⟨/);
  assert.match(await shown(row, { template: "none" }), /^\[a\nb\]\nc⟨/);
  const developer = {
    messages: [{ role: "developer", content: "Sing." }, user("a"), assistant("b")],
  };
  assert.match(await shown(developer, { template: roles }), /system:Sing\./);
  assert.match(await shown(developer, { template: plain }), /developer\nSing\./);
});

Deno.test("encoder: arguments of calls as objects or text, as the template takes them", async () => {
  const calling = (how: string) =>
    templateFile(
      "{% for m in messages %}{{ '<|begin|>' + m.role + ':' + (m.content or '') }}" +
        `{% for c in m.tool_calls %}{{ c.function.name + ' ' + ${how} }}{% endfor %}{{ '<|end|>' }}` +
        "{% endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant:' }}{% endif %}",
    );
  const asJson = calling("(c.function.arguments | tojson)");
  const asText = calling("c.function.arguments");
  const either = calling(
    "(c.function.arguments if c.function.arguments is string else (c.function.arguments | tojson))",
  );
  const row = (value: unknown) => ({
    messages: [
      user("a"),
      assistant("", {
        tool_calls: [{ type: "function", function: { name: "f", arguments: value } }],
      }),
    ],
  });
  const object = { x: 1, y: "é" }, text = '{"x":1,"y":"\\u00e9"}', spaced = '{"x": 1, "y": "é"}';
  const of = async (template: string, value: unknown) =>
    (await shown(row(value), { template })).split("]")[1];
  for (const value of [object, text]) assert.equal(await of(asJson, value), `f ${spaced}⟨<|end|>⟩`);
  assert.equal(await of(asText, object), `f ${spaced}⟨<|end|>⟩`);
  assert.equal(await of(asText, text), `f ${text}⟨<|end|>⟩`);
  assert.equal(await of(either, object), `f ${spaced}⟨<|end|>⟩`);
  assert.equal(await of(either, text), `f ${text}⟨<|end|>⟩`);
  await assert.rejects(
    of(asJson, "x=1"),
    /^UserError: .*row 1 .*: message 2, tool call 1: its arguments are text; expected a JSON object$/,
  );
});

Deno.test("encoder: a call without a content has an empty one where the template can't do without", async () => {
  const writing = (content: string) =>
    templateFile(
      `{% for m in messages %}{{ '<|begin|>' + m.role + ':' }}{{ ${content} }}` +
        "{% for c in m.tool_calls %}{{ '!' + c.function.name }}{% endfor %}{{ '<|end|>' }}" +
        "{% endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant:' }}{% endif %}",
    );
  const tool_calls = [{ type: "function", function: { name: "f", arguments: {} } }];
  const expected = "[⟨<|begin|>⟩user:a⟨<|end|>⟩⟨<|begin|>⟩assistant:]";
  for (const call of [{ content: null }, {}]) {
    const row = { messages: [user("a"), { role: "assistant", ...call, tool_calls }] };
    for (const content of ["m.content", "'' + m.content", "m.content or ''"]) {
      const template = writing(content);
      assert.equal(await shown(row, { template }), `${expected}!f⟨<|end|>⟩`, content);
    }
  }
  // A template that tells the two apart gets what there is.
  const row = { messages: [user("a"), { role: "assistant", content: null, tool_calls }] };
  const template = writing("'(none)' if m.content is none else m.content");
  assert.equal(await shown(row, { template }), `${expected}(none)!f⟨<|end|>⟩`);
});

Deno.test("encoder: a row's variables and tools, and a template of its own for those", async () => {
  const own = templateFile(
    "{{ flag }}|{{ tools | length if tools else 0 }}|" + PLAIN,
  );
  const of = (more: object, options: Options = {}) =>
    shown({ ...TALK, ...more }, { template: own, template_kwargs: '{"flag": "a"}', ...options });
  assert.match(await of({}), /^\[a\|0\|/);
  assert.match(await of({ chat_template_kwargs: { flag: "b" } }), /^\[b\|0\|/);
  assert.match(await of({ tools: [{ name: "f" }, { name: "g" }] }), /^\[a\|2\|/);
  await assert.rejects(of({}, { template_kwargs: "{" }), /UserError: template_kwargs: is not JSON/);
});

Deno.test("encoder: what a template leaves out is refused, or told", async () => {
  const few = templateFile(
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}" +
      "{{ '<|begin|>' + m.role + ':' + m.content + '<|end|>' }}{% endif %}{% endfor %}" +
      "{% if add_generation_prompt %}{{ '<|begin|>assistant:' }}{% endif %}",
  );
  const refused = (row: unknown, message: RegExp) =>
    assert.rejects(
      shown(row, { template: few }),
      (error) => error instanceof UserError && message.test(error.message),
    );
  await refused(
    { messages: [user("a"), { role: "tool", content: "7" }, assistant("b")] },
    /^data file "some\.json", row 1 .*: message 2 is by "tool", and .*\.jinja writes nothing of it;/,
  );
  const calls = [{ type: "function", function: { name: "f", arguments: {} } }];
  await refused(
    { messages: [user("a"), assistant("", { tool_calls: calls })] },
    /: message 2 calls the tool "f", and .* does not write that; expected a chat template that/,
  );
  const rows = [
    { messages: [{ role: "system", content: "Sing." }, ...TALK.messages], tools: [{ name: "f" }] },
    {
      messages: [
        { role: "system", content: "Sing." },
        user("a"),
        assistant("b", { thinking: "c" }),
      ],
    },
    TALK,
  ];
  const encoder = encoderOf({ template: few });
  for (const sample of parseSamples(JSON.stringify(rows), "a.json").samples) {
    assert.ok(supervisedTokens(await encode(encoder, sample)) > 0);
  }
  assert.deepEqual(encoder.notes, [
    "The chat template writes nothing of the system message of 2 samples",
    "The chat template writes nothing of the tools of 1 sample",
    "The chat template writes nothing of the thinking of 1 sample",
  ]);
  const alpaca = encoderOf({ template: "alpaca" });
  const [sample] = parseSamples(JSON.stringify(rows), "a.json").samples;
  await encode(alpaca, sample);
  assert.deepEqual(alpaca.notes, ["Template alpaca writes nothing of the tools of 1 sample"]);
});

Deno.test("encoder: where it can't be told what the assistant makes, the reason is", async () => {
  const refused = (source: string, message: RegExp, row: unknown = TALK) =>
    assert.rejects(
      shown(row, { template: templateFile(source), train_on: "assistant" }),
      (error) => error instanceof UserError && message.test(error.message),
    );
  // Answers before their questions.
  await refused(
    "{% for m in messages | reverse %}{{ m.role + ':' + m.content + '<|end|>' }}{% endfor %}" +
      "{% if add_generation_prompt %}assistant:{% endif %}",
    /which tokens of message 2 the assistant makes can't be told from the chat template: /,
  );
  // All of it in one piece.
  await refused(
    "{{ messages | map(attribute='content') | join('') | upper | replace('H', 'HH') }}" +
      "{% if add_generation_prompt %}>{% endif %}",
    /can't be told .*: what precedes it there is not what the template writes to ask the assistant/,
  );
  await refused(
    "{{ raise_exception('no') }}",
    /\.jinja: the chat template refuses the conv.*: no$/,
  );
  await refused("{% if %}", /\.jinja: the chat template, line 1, can't be rendered/);
  await assert.rejects(shown(TALK, { template: "missing.jinja" }), /missing\.jinja/);
  await assert.rejects(
    shown(TALK, { template: "chat", tokenizerPath: fixturePath("llama") }),
    /has no template of its own/,
  );
});

Deno.test("encoder: a template that takes parts alone gets texts as parts", async () => {
  const partsOnly = templateFile(
    "{% for m in messages %}{{ '<|begin|>' + m.role + ':' }}{% for p in m.content %}" +
      "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{{ '<|end|>' }}{% endfor %}" +
      "{% if add_generation_prompt %}{{ '<|begin|>assistant:' }}{% endif %}",
  );
  const expected = "[⟨<|begin|>⟩user:Hi⟨<|end|>⟩⟨<|begin|>⟩assistant:]Hello⟨<|end|>⟩";
  const row = { messages: TALK.messages.slice(0, 2) };
  assert.equal(await shown(row, { template: partsOnly }), expected);
  const instruction = { instruction: "Hi", output: "Hello" };
  assert.equal(await shown(instruction, { template: partsOnly }), expected);
});
