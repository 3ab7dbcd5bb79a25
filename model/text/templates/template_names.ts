/**
 * The names of templates: how people say in what form conversations are to be written.
 *
 * @module
 */
import {
  chatTemplates,
  type ChatTemplateSource,
  hasChatTemplate,
  readTemplate,
} from "./chat_template.ts";
import type { PlainTemplate } from "./plain_templates.ts";

/** A name: those below, `auto`, `chat` for the model's own template, or a file with one in Jinja. */
export type TemplateName = string;

/** A template, whatever its name: one of those without roles of their own, or one in Jinja. */
export interface NamedTemplate {
  /** What to call it; `auto` is what it stands for. */
  name: string;
  kind: PlainTemplate | "chat";
  /** For `chat`, a template in place of the model's own. */
  source?: ChatTemplateSource;
}

/** ChatML, https://github.com/openai/openai-python/blob/release-v0.28.1/chatml.md. */
const CHATML = `{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}`;

/**
 * The template of a name. `auto` is the model's own where it has one, else Alpaca's.
 *
 * @param tokenizerPath Where the model's own would be.
 * @throws UserError where it is a file that can't be read.
 */
export function templateOf(name: TemplateName, tokenizerPath: string): NamedTemplate {
  switch (name) {
    case "alpaca":
    case "llama2":
    case "none":
    case "chat":
      return { name, kind: name };
    case "auto":
      return templateOf(hasChatTemplate(tokenizerPath) ? "chat" : "alpaca", tokenizerPath);
    case "chatml":
      return { name, kind: "chat", source: { source: CHATML, file: "template chatml" } };
    default:
      return { name, kind: "chat", source: readTemplate(name) };
  }
}

/** Whether a template may write what day it is. @throws UserError as {@linkcode templateOf} does. */
export function asksDate(name: TemplateName, tokenizerPath: string): boolean {
  const { kind, source } = templateOf(name, tokenizerPath);
  if (kind !== "chat") return false;
  const sources = source === undefined ? [...chatTemplates(tokenizerPath).values()] : [source];
  return sources.some(({ source }) => source.includes("strftime_now"));
}
