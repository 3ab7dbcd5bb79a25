/** Parts of the server's page that need no browser: events of a stream, and what a conversation is to a model. */
import assert from "node:assert/strict";
import { messagesOf, sampleOf, type Turn } from "../../../infer/serve/page/conversation.ts";
import { eventData } from "../../../infer/serve/page/events.ts";

/** The data of events that come in pieces of so many bytes. */
async function read(text: string, size: number): Promise<string[]> {
  const bytes = new TextEncoder().encode(text), pieces: Uint8Array[] = [];
  for (let i = 0; i < bytes.length; i += size) pieces.push(bytes.slice(i, i + size));
  return await Array.fromAsync(eventData(ReadableStream.from(pieces)));
}

Deno.test("serve page: events are read whatever pieces they come in", async () => {
  const text =
    'data: {"a":"é三"}\n\n: a comment\nevent: x\ndata: one\ndata:two\n\n\n\ndata: [DONE]\n\ndata: cut';
  for (const size of [1, 2, 3, 7, 1000]) {
    for (const lines of [text, text.replaceAll("\n", "\r\n")]) {
      assert.deepEqual(await read(lines, size), ['{"a":"é三"}', "one\ntwo", "[DONE]"], `${size}`);
    }
  }
});

Deno.test("serve page: whoever reads no further ends the request", async () => {
  let canceled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
    cancel: () => void (canceled = true),
  });
  for await (const data of eventData(body)) {
    assert.equal(data, "x");
    break;
  }
  assert.ok(canceled);
});

const answer = (text: string, state: "stop" | "stopped" | "failed" | "running" = "stop") => ({
  model: "m",
  text,
  state,
});

Deno.test("serve page: a column's conversation has the turns that it has answered, in turns", () => {
  const turns: Turn[] = [
    { prompt: "1", answers: [answer("a"), null] },
    { prompt: "2", answers: [answer("", "failed"), answer("b")] },
    { prompt: "3", answers: [answer("", "stop"), answer("part", "stopped")] },
    { prompt: "4", answers: [answer("", "stopped"), answer("", "running")] },
  ];
  const said = (column: number) => messagesOf(" ", turns, column).map(({ content }) => content);
  assert.deepEqual(said(0), ["1", "a", "3", ""]);
  assert.deepEqual(said(1), ["2", "b", "3", "part"]);
  assert.deepEqual(messagesOf("Be short.", [], 0), [{ role: "system", content: "Be short." }]);
  assert.equal(sampleOf("Be short.", turns.slice(3), 0), undefined);
  assert.equal(
    sampleOf("", turns.slice(0, 1), 0),
    '{"messages":[{"role":"user","content":"1"},{"role":"assistant","content":"a"}]}\n',
  );
});
