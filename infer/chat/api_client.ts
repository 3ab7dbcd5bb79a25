/**
 * A client of OpenAI's API: which models there are, and answers as they are made. npm's `openai` would do the same, but takes
 * 80 ms to load, which is as long as all else of a start.
 *
 * @module
 */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { ServerUrl } from "../../cli/server_url.ts";
import { UserError } from "../../kernels/errors.ts";
import { isObject } from "../../model/files/json_file.ts";
import type { Message } from "../../model/text/templates/chat.ts";
import { refusal } from "./api_refusal.ts";

/** Milliseconds that a server may take to tell its models. */
const PATIENCE = 30_000;
/** Characters of an event at most. */
const LONGEST_EVENT = 1 << 20;

/** What an answer is asked for with. */
export interface ChatAsk {
  readonly model: string;
  readonly messages: readonly Message[];
  /** How tokens are chosen. */
  readonly sampling: Readonly<Record<string, number>>;
}

/** What went wrong with a connection, in a few words: the part of Deno's message after those of its libraries' names. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  if (cause instanceof Error) return reasonOf(cause);
  return message.replace(/^.*client error \(\w+\): |^Fetch failed: /s, "")
    .replace(/^tcp connect error: /, "").replace(/ \(os error \d+\)/, "");
}

/** A server. */
export class ApiClient {
  /** @param key Sent with each request. */
  constructor(readonly url: ServerUrl, readonly key: string | undefined) {}

  /**
   * The names of the server's models; undefined where it does not tell them.
   *
   * @throws {UserError} where it is not there, or refuses to.
   */
  async models(): Promise<string[] | undefined> {
    const response = await this.#ask("/models", { signal: AbortSignal.timeout(PATIENCE) });
    if (response.status === 404 || response.status === 405) {
      await response.body?.cancel();
      return undefined;
    }
    if (!response.ok) throw await refusal(this.url, this.key, response);
    const list: unknown = await response.json().catch(() => undefined);
    const data = isObject(list) ? list.data : undefined;
    if (!Array.isArray(data)) {
      throw new UserError(
        `${this.url.base}/models is no list of models; expected the URL of a server of OpenAI's API, such as http://127.0.0.1:8080`,
      );
    }
    return data.flatMap((model) => isObject(model) && model.id ? [String(model.id)] : []);
  }

  /**
   * The pieces of an answer's text. It ends early, and without an error, where `signal` does.
   *
   * @throws {UserError} where there is none, or it breaks off.
   */
  async *answer({ sampling, ...ask }: ChatAsk, signal: AbortSignal): AsyncGenerator<string> {
    try {
      const response = await this.#ask("/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...ask, ...sampling, stream: true }),
        signal,
      });
      if (!response.ok) throw await refusal(this.url, this.key, response);
      yield* this.#pieces(response);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #ask(path: string, init: RequestInit): Promise<Response> {
    const { base, address } = this.url, headers = new Headers(init.headers);
    if (this.key !== undefined) headers.set("Authorization", `Bearer ${this.key}`);
    try {
      // A redirection would take the key and the conversation elsewhere.
      const response = await fetch(base + path, { ...init, headers, redirect: "manual" });
      const { status } = response;
      if (status < 300 || status >= 400) return response;
      await response.body?.cancel();
      const place = response.headers.get("location") ?? "another place";
      throw new UserError(`${base + path} leads to ${place}; expected the server's own URL`);
    } catch (error) {
      if (error instanceof UserError) throw error;
      if (error instanceof Deno.errors.NotCapable) {
        throw new UserError(
          `${address} may not be reached by this program; expected a server of this machine, or ./lorikeet chat`,
        );
      }
      throw new UserError(
        `${base} can't be reached: ${reasonOf(error)}; expected the URL of a server that runs`,
      );
    }
  }

  async *#pieces(response: Response): AsyncGenerator<string> {
    const broken = (why: string) => new UserError(`the answer broke off: ${why}`);
    const type = response.headers.get("content-type") ?? "";
    if (response.body === null || !type.startsWith("text/event-stream")) {
      await response.body?.cancel();
      throw new UserError(
        `${this.url.base} answers with ${
          type || "nothing"
        }; expected a stream of events, as OpenAI's API has it`,
      );
    }
    const events = response.body.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream({ maxBufferSize: LONGEST_EVENT }));
    let isWhole = false;
    try {
      for await (const { data } of events) {
        if (data === "[DONE]") {
          isWhole = true;
          break;
        }
        const { text, finished, error } = readEvent(data);
        if (error !== undefined) throw broken(error);
        isWhole ||= finished;
        if (text !== "") yield text;
      }
    } catch (error) {
      throw error instanceof UserError ? error : broken(reasonOf(error));
    }
    if (!isWhole) throw broken("the server closed the connection before its end");
  }
}

/** What an event says of an answer. */
function readEvent(data: string): { text: string; finished: boolean; error?: string } {
  let event: unknown;
  try {
    event = JSON.parse(data);
  } catch {
    return { text: "", finished: false, error: "an event of it is no JSON" };
  }
  const { choices, error } = isObject(event) ? event : {};
  if (error !== undefined && error !== null) {
    const said = isObject(error) ? error.message : error;
    return { text: "", finished: false, error: String(said) };
  }
  const [choice] = Array.isArray(choices) ? choices : [];
  const { delta, finish_reason } = isObject(choice) ? choice : {};
  const content = isObject(delta) ? delta.content : undefined;
  return {
    text: typeof content === "string" ? content : "",
    finished: typeof finish_reason === "string",
  };
}
