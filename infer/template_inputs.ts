/**
 * From a command's flags to the template of a conversation and what it is given.
 *
 * @module
 */
import type { JsonText, TemplateInputs } from "../model/text/templates/chat_rendering.ts";
import type { NamedTemplate } from "../model/text/templates/template_names.ts";
import { readText } from "../model/files/whole_file.ts";
import type { TemplateFlags } from "./flags.ts";

/** Tools and conversations are small; a file beyond this is something else. */
const MAX_BYTES = 100_000_000;

/** A file of JSON as it is written. @throws UserError where it can't be read or is too large. */
export function readJsonFile(file: string): JsonText {
  return { json: readText(file, { what: "a JSON file", maxBytes: MAX_BYTES }), name: file };
}

/**
 * What the model's own template is given.
 *
 * @throws UserError where the file of tools can't be read.
 */
export function templateInputs(
  { tools, template_kwargs }: TemplateFlags,
  tokenizerPath: string,
  { source }: NamedTemplate,
): TemplateInputs {
  return {
    folder: tokenizerPath,
    template: source,
    tools: tools === undefined ? undefined : readJsonFile(tools),
    variables: template_kwargs === undefined
      ? undefined
      : { json: template_kwargs, name: "--template-kwargs" },
  };
}

/** Templates that know no tools and variables. */
const PLAIN = ["alpaca", "llama2", "none"];

/** Flags that are for templates in Jinja, given with another. */
export function ownTemplateFlags(
  { template, tools, template_kwargs }: Partial<TemplateFlags> & { template?: string },
): string[] {
  if (template === undefined || !PLAIN.some((name) => name === template)) return [];
  const given = [
    ...(tools === undefined ? [] : ["--tools"]),
    ...(template_kwargs === undefined ? [] : ["--template-kwargs"]),
  ];
  return given.map((flag) =>
    `${flag} is for the model's own template, --template chat; --template ${template} knows nothing of it`
  );
}
