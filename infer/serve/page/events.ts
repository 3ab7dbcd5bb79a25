/**
 * Server-sent events, as far as OpenAI's API has them: `data: ` and a text, an event a paragraph
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html). npm's eventsource-parser, by which `chat` reads them, keeps
 * its modules to itself, so that a browser could not be given them one by one.
 *
 * @module
 */

/** The data of each event. Leaving the loop ends the request. */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader(), decoder = new TextDecoder();
  let rest = "", data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n/);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice("data:".length).replace(/^ /, ""));
        if (line !== "" || data.length === 0) continue;
        yield data.join("\n");
        data = [];
      }
    }
  } finally {
    await reader.cancel();
  }
}
