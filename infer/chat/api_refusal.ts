/**
 * Requests that a server refuses, as a sentence.
 *
 * @module
 */
import type { ServerUrl } from "../../cli/server_url.ts";
import { UserError } from "../../kernels/errors.ts";
import { shortened } from "../../kernels/terminal.ts";
import { isObject } from "../../model/files/json_file.ts";

/** Characters of a server's message that are told. */
const LONGEST_MESSAGE = 500;

/** A server's refusal. */
export class ServerRefusal extends UserError {
  /** @param isTooLong Whether the conversation has more tokens than the model's context. */
  constructor(message: string, readonly isTooLong: boolean) {
    super(message);
  }
}

/** What a server says of an error: in OpenAI's shape, or as one of the frameworks that servers are made with. */
function saidOf(text: string): { message: string; code: string } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { message: text.startsWith("<") ? "" : text.trim(), code: "" };
  }
  const error = isObject(body) ? body.error ?? body.message ?? body.detail : body;
  if (!isObject(error)) return { message: String(error ?? ""), code: "" };
  return { message: String(error.message ?? ""), code: `${error.code} ${error.type}` };
}

/** Seconds to wait, as Retry-After says it: a number, or a date. */
function secondsOf(retryAfter: string | null): number | undefined {
  if (retryAfter === null) return undefined;
  const seconds = /^\d+$/.test(retryAfter)
    ? Number(retryAfter)
    : Math.ceil((Date.parse(retryAfter) - Date.now()) / 1000);
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** What to do about a refusal. */
function adviceOf({ status, headers }: Response, key: string | undefined): string {
  if (status === 401 || status === 403) {
    return key === undefined
      ? "; expected --api-key-file with one of the server's keys"
      : "; expected another key in --api-key-file";
  }
  if (status !== 429 && status !== 503) return "";
  const seconds = secondsOf(headers.get("retry-after"));
  return seconds === undefined ? "; ask again later" : `; ask again in ${seconds} s`;
}

/** The error of a response that is none. */
export async function refusal(
  { base }: ServerUrl,
  key: string | undefined,
  response: Response,
): Promise<ServerRefusal> {
  const { status } = response, text = await response.text().catch(() => "");
  const { message, code } = saidOf(text);
  // OpenAI's code, llama.cpp's, and what vLLM says.
  const isTooLong = /context_length_exceeded|exceed_context_size/.test(code) ||
    /maximum context length/.test(message);
  const said = shortened(message.replace(/\s+/g, " "), LONGEST_MESSAGE).replace(/\.$/, "");
  const what = `${base} refuses (${status})${said === "" ? "" : `: ${said}`}`;
  return new ServerRefusal(what + adviceOf(response, key), isTooLong);
}
