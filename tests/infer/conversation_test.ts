/** A conversation's history: what the model is given, and what is forgotten when it gets too long. */
import assert from "node:assert/strict";
import { Conversation } from "../../infer/conversation.ts";
import { UserError } from "../../kernels/errors.ts";
import { chatEncoder, type ChatTemplate, type Message } from "../../model/text/templates/chat.ts";
import { loadTokenizer } from "../../model/text/tokenizer/load.ts";
import { fixturePath } from "../fixtures.ts";

const tokenizer = await loadTokenizer(fixturePath("tiny_tokenizer.model"));
const encoders = {
  alpaca: await chatEncoder("alpaca", tokenizer),
  llama2: await chatEncoder("llama2", tokenizer),
  none: await chatEncoder("none", tokenizer),
};
type Tested = Exclude<ChatTemplate, "chat">;

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });
const system = (content: string): Message => ({ role: "system", content });

const idsOf = (template: Tested, ...messages: Message[]) =>
  Array.from(encoders[template](messages));

for (const template of ["alpaca", "llama2", "none"] as const) {
  Deno.test(`conversation: ${template}: earlier turns come before the question`, () => {
    const conversation = new Conversation(encoders[template]);
    const first = conversation.ask("One?", 1000);
    assert.deepEqual(first, { ids: idsOf(template, user("One?")), forgotten: 0 });
    conversation.answer("1");
    const turns = [user("One?"), assistant("1"), user("Two?")];
    const second = conversation.ask("Two?", 1000);
    assert.deepEqual(second, { ids: idsOf(template, ...turns), forgotten: 0 });
    assert.deepEqual(conversation.messages, turns);
  });
}

/** A conversation of turns a to c, which answer themselves. */
function threeTurns(instructions?: string): Conversation {
  const conversation = new Conversation(encoders.llama2, instructions);
  for (const text of ["aaa", "bbb", "ccc"]) {
    conversation.ask(text, 1000);
    conversation.answer(text);
  }
  return conversation;
}

for (const instructions of [undefined, "Be brief."]) {
  const before = instructions === undefined ? [] : [system(instructions)];
  const whose = instructions === undefined ? "" : ", but never the system message";
  Deno.test(`conversation: the oldest turns are forgotten first${whose}`, () => {
    const turns = ["aaa", "bbb", "ccc"].map((text) => [user(text), assistant(text)]);
    for (const forgotten of [0, 1, 2, 3]) {
      const kept = [...before, ...turns.slice(forgotten).flat(), user("ddd")];
      const expected = { ids: idsOf("llama2", ...kept), forgotten };
      // What fits exactly is kept; with one token less, a turn more has to go.
      const conversation = threeTurns(instructions);
      assert.deepEqual(conversation.ask("ddd", expected.ids.length), expected);
      assert.deepEqual(conversation.messages, kept);
      const tighter = threeTurns(instructions);
      const ask = () => tighter.ask("ddd", expected.ids.length - 1);
      if (forgotten < 3) assert.equal(ask().forgotten, forgotten + 1);
      else assert.throws(ask, UserError);
    }
  });

  Deno.test(`conversation: reset forgets everything${whose}`, () => {
    const conversation = threeTurns(instructions);
    conversation.reset();
    assert.deepEqual(conversation.messages, before);
    const { ids } = conversation.ask("ddd", 1000);
    assert.deepEqual(ids, idsOf("llama2", ...before, user("ddd")));
  });
}

Deno.test("conversation: a message that is too long by itself is refused and nothing changes", () => {
  const conversation = threeTurns();
  const messages = [...conversation.messages];
  const long = "word ".repeat(50);
  const { length } = idsOf("llama2", user(long));
  const sentence = `the message has ${length} tokens with its template, expected at most 40, so ` +
    "that an answer has room";
  assert.throws(() => conversation.ask(long, 40), new UserError(sentence));
  assert.deepEqual(conversation.messages, messages);
  assert.equal(conversation.ask("ddd", 1000).forgotten, 0);
  assert.deepEqual(conversation.messages, [...messages, user("ddd")]);
});

Deno.test("conversation: after an answer that was stopped at once it goes on", () => {
  const conversation = new Conversation(encoders.llama2);
  conversation.ask("One?", 1000);
  conversation.answer("");
  const { ids } = conversation.ask("Two?", 1000);
  assert.deepEqual(ids, idsOf("llama2", user("One?"), assistant(""), user("Two?")));
});
