/** Talks with a process. */
import assert from "node:assert/strict";

/** What a stream has brought so far. */
export interface Followed {
  /** Settled at the stream's end. */
  readonly done: Promise<void>;
  readonly text: string;
  /** Waits for more. */
  until(what: (text: string) => boolean): Promise<void>;
}

/** Reads a stream as it comes. */
export function follow(stream: ReadableStream<Uint8Array>): Followed {
  let text = "";
  let grown = Promise.withResolvers<void>();
  const done = (async () => {
    for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      grown.resolve();
      grown = Promise.withResolvers();
    }
    text += "[end]";
    grown.resolve();
  })();
  return {
    done,
    get text() {
      return text;
    },
    async until(what: (text: string) => boolean): Promise<void> {
      while (!what(text)) {
        assert.ok(!text.endsWith("[end]"), `ended too early: ${text.slice(0, 2000)}`);
        await grown.promise;
      }
    },
  };
}

/** Kills a process that runs for longer than a minute, or than its test. */
export function limited(process: Deno.ChildProcess): Disposable {
  const kill = () => {
    try {
      process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
  };
  const timer = setTimeout(kill, 60_000);
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      kill();
    },
  };
}
