/**
 * A model's own chat template: Jinja, found and rendered as `transformers` does.
 *
 * @module
 */
import { Environment, Interpreter, Template } from "jinja";
import { dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { brief, exists, fileError, isObject, readJson } from "../files/weights.ts";
import { readText } from "../files/whole_file.ts";
import type { Message } from "./chat.ts";

/** A template and the file it is from. */
export interface ChatTemplateSource {
  source: string;
  file: string;
}

const OTHERS = "the other templates are alpaca, llama2 and none";

/** The largest template read; the longest in use have some 20 kB. */
const MAX_BYTES = 1_000_000;

/** `chat_template` of tokenizer_config.json: a text, or a list of named ones. */
function fromConfig(value: unknown, file: string): ChatTemplateSource {
  if (typeof value === "string") return { source: value, file };
  const named = Array.isArray(value) ? value.filter(isObject) : [];
  const source = named.find(({ name }) => name === "default")?.template;
  if (typeof source === "string") return { source, file };
  const has = named.length > 0 ? brief(named.map(({ name }) => name)) : brief(value);
  throw new UserError(
    `${file}: chat_template is ${has}, expected a template or one named "default"; ${OTHERS}`,
  );
}

/**
 * Finds the template of a model: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json`.
 *
 * @param path The tokenizer's folder, or a file in it.
 * @throws UserError where there is none.
 */
export function findChatTemplate(path: string | undefined): ChatTemplateSource {
  if (path === undefined) {
    throw new UserError(`template chat needs a model with a folder of its own; ${OTHERS}`);
  }
  const { jinja, file } = templateFiles(path);
  if (exists(jinja)) {
    return {
      source: readText(jinja, { what: "a chat template", maxBytes: MAX_BYTES }),
      file: jinja,
    };
  }
  const value = templateInConfig(file);
  if (value !== undefined) return fromConfig(value, file);
  throw new UserError(
    `${file} ${exists(file) ? "has no chat_template" : "does not exist"}, nor is there a ` +
      `chat_template.jinja: the model has no template of its own; ${OTHERS}`,
  );
}

/** Whether {@linkcode findChatTemplate} has something to find. */
export function hasChatTemplate(path: string): boolean {
  const { jinja, file } = templateFiles(path);
  return exists(jinja) || templateInConfig(file) !== undefined;
}

/** Where a template may be. */
function templateFiles(path: string): { jinja: string; file: string } {
  let isDirectory: boolean;
  try {
    ({ isDirectory } = Deno.statSync(path));
  } catch (error) {
    throw fileError(path, "read", error);
  }
  const folder = isDirectory ? path : dirname(path);
  return {
    jinja: join(folder, "chat_template.jinja"),
    file: join(folder, "tokenizer_config.json"),
  };
}

function templateInConfig(file: string): unknown {
  const config = exists(file) ? readJson(file) : undefined;
  return isObject(config) ? config.chat_template ?? undefined : undefined;
}

/** The date and time now in Python's `strftime` format, as far as templates use it, in English. */
function strftimeNow(format: string): string {
  const now = new Date();
  const name = (part: "month" | "weekday", length: "long" | "short") =>
    new Intl.DateTimeFormat("en", { [part]: length }).format(now);
  const digits = (value: number) => String(value).padStart(2, "0");
  const values: Record<string, string> = {
    Y: String(now.getFullYear()),
    m: digits(now.getMonth() + 1),
    d: digits(now.getDate()),
    H: digits(now.getHours()),
    M: digits(now.getMinutes()),
    S: digits(now.getSeconds()),
    B: name("month", "long"),
    b: name("month", "short"),
    A: name("weekday", "long"),
    a: name("weekday", "short"),
    "%": "%",
  };
  return format.replace(/%(.)/g, (text, letter) => values[letter] ?? text);
}

/** Python's `range`, as far as templates use it. */
function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  return Array.from(
    { length: Math.max(0, Math.ceil((to - from) / step)) },
    (_, i) => from + i * step,
  );
}

/** What Jinja knows by itself. */
const CONSTANTS = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range,
};

/**
 * The text of a conversation up to where the assistant goes on.
 *
 * @throws UserError where the template is wrong, or refuses the messages.
 */
export function renderChatTemplate(
  { source, file }: ChatTemplateSource,
  messages: readonly Message[],
  tokens: Readonly<Record<string, string>>,
): string {
  try {
    // Not by render(): its own strftime_now and raise_exception can't be replaced.
    const environment = new Environment();
    const variables = {
      ...CONSTANTS,
      messages,
      ...tokens,
      tools: null,
      documents: null,
      add_generation_prompt: true,
      strftime_now: strftimeNow,
      raise_exception: (message: unknown) => {
        throw new UserError(`${file}: the chat template refuses the conversation: ${message}`);
      },
    };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    return String(new Interpreter(environment).run(new Template(source).parsed).value);
  } catch (error) {
    if (error instanceof UserError || !(error instanceof Error)) throw error;
    throw new UserError(`${file}: the chat template can't be rendered: ${error.message}`);
  }
}
