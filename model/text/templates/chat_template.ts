/**
 * Where a model's own chat template is, as `transformers` 5.18 finds it.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { isGguf } from "../../formats/gguf/header.ts";
import { readTemplates } from "../../formats/gguf/vocabulary.ts";
import { brief, isObject, readJson } from "../../files/json_file.ts";
import { moreTemplates } from "../../formats/tokenizer_names.ts";
import { exists, isFolder, readBytes } from "../../files/whole_file.ts";

/** A template and the file it is from. */
export interface ChatTemplateSource {
  source: string;
  file: string;
}

/** The templates of a model by their names; one alone has the name "default". */
export type ChatTemplates = ReadonlyMap<string, ChatTemplateSource>;

/** Which of several templates is wanted. */
export interface TemplateChoice {
  /** Its name, where one was asked for. */
  name?: string;
  /** Whether there are tools: then a template "tool_use" comes before "default". */
  tools?: boolean;
}

const OTHERS = "the other templates are alpaca, llama2, chatml and none, or a file";

/** The largest template read; the longest in use have some 20 kB. */
const MAX_BYTES = 1_000_000;

/** A template in a file of its own. @throws UserError where it can't be read. */
export function readTemplate(file: string): ChatTemplateSource {
  const bytes = readBytes(file, { what: "a chat template", maxBytes: MAX_BYTES });
  // As in Python, a mark at the beginning is part of the text.
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    return { source: decoder.decode(bytes), file };
  } catch {
    throw new UserError(`${file}: is not UTF-8 text`);
  }
}

/** `chat_template` of a JSON file: a text, or named ones as a list or an object. */
function namedTemplates(value: unknown, file: string): Map<string, ChatTemplateSource> {
  const entries = Array.isArray(value)
    ? value.map((entry) => isObject(entry) ? [entry.name, entry.template] : [])
    : isObject(value)
    ? Object.entries(value)
    : [["default", value]];
  return new Map(entries.map(([name, source]) => {
    if (typeof name === "string" && typeof source === "string") return [name, { source, file }];
    throw new UserError(
      `${file}: chat_template is ${brief(value)}, expected a text, or a list of templates with ` +
        `name and template; ${OTHERS}`,
    );
  }));
}

function templateInJson(file: string): Map<string, ChatTemplateSource> | undefined {
  const json = exists(file) ? readJson(file) : undefined;
  const value = isObject(json) ? json.chat_template : undefined;
  return value === undefined || value === null ? undefined : namedTemplates(value, file);
}

/** `chat_template.jinja`, which is "default", and `additional_chat_templates/NAME.jinja`. */
function templateFiles(folder: string): Map<string, ChatTemplateSource> | undefined {
  const found = new Map<string, ChatTemplateSource>();
  const main = join(folder, "chat_template.jinja");
  if (exists(main)) found.set("default", readTemplate(main));
  for (const path of moreTemplates(folder)) {
    found.set(basename(path, ".jinja"), readTemplate(join(folder, path)));
  }
  return found.size === 0 ? undefined : found;
}

function folderOf(path: string): string {
  return isFolder(path) ? path : dirname(path);
}

/** The templates that a model's file holds itself. */
function templatesInFile(file: string): ChatTemplates | undefined {
  const named = Array.from(
    readTemplates(file),
    ([name, source]) => [name, { source, file }] as const,
  );
  return named.length > 0 ? new Map(named) : undefined;
}

/** The templates of a model, and what is said where there are none. */
interface Found {
  templates: ChatTemplates | undefined;
  missing: string;
}

/**
 * All templates of a model. In a folder, files of their own come before those that tokenizer_config.json holds, and
 * hide all of them; chat_template.json, where older processors keep theirs, comes last.
 */
function allTemplates(path: string): Found {
  if (isGguf(path)) {
    const missing = `${path} has no tokenizer.chat_template`;
    return { templates: templatesInFile(path), missing };
  }
  const folder = folderOf(path), config = join(folder, "tokenizer_config.json");
  return {
    templates: templateFiles(folder) ?? templateInJson(config) ??
      templateInJson(join(folder, "chat_template.json")),
    missing: `${config} ${exists(config) ? "has no chat_template" : "does not exist"}, nor is ` +
      "there a chat_template.jinja",
  };
}

/**
 * Finds the template of a model.
 *
 * @param path The tokenizer's folder, or a file in it, or the GGUF file that holds the model.
 * @throws UserError where there is none, or none of the name.
 */
export function findChatTemplate(
  path: string | undefined,
  { name, tools = false }: TemplateChoice = {},
): ChatTemplateSource {
  if (path === undefined) {
    throw new UserError(`template chat needs a model with a folder of its own; ${OTHERS}`);
  }
  const { templates, missing } = allTemplates(path);
  if (templates === undefined) {
    throw new UserError(`${missing}: the model has no template of its own; ${OTHERS}`);
  }
  const wanted = name ?? (tools && templates.has("tool_use") ? "tool_use" : "default");
  const found = templates.get(wanted);
  if (found !== undefined) return found;
  const [{ file }] = templates.values();
  throw new UserError(
    `${file}: there is no chat template named "${wanted}", only ${brief([...templates.keys()])}; ` +
      `choose one with --template-kwargs '{"chat_template": "NAME"}'; ${OTHERS}`,
  );
}

/** The templates of a model; none where it has none. @param path As of {@linkcode findChatTemplate}. */
export function chatTemplates(path: string): ChatTemplates {
  return allTemplates(path).templates ?? new Map();
}

/** Whether {@linkcode findChatTemplate} has something to find. */
export function hasChatTemplate(path: string): boolean {
  return allTemplates(path).templates !== undefined;
}
