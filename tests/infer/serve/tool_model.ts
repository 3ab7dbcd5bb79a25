/** The built-in model with a chat template that knows tools, as Hermes' does. */
import { join } from "node:path";
import { ROOT } from "../../../scripts/compile.ts";

const TEMPLATE = `{%- if tools %}Tools:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
{% endif %}
{%- for message in messages %}
{{- message.role }}: {{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}
{% endfor %}
{%- if add_generation_prompt %}assistant:{% endif %}`;

/** Writes it, with this or another template, to a folder that is not there yet. */
export function writeToolModel(folder: string, template = TEMPLATE): void {
  const builtin = join(ROOT, "examples/builtin/model");
  Deno.mkdirSync(folder);
  for (const { name, isFile } of Deno.readDirSync(builtin)) {
    if (isFile) Deno.copyFileSync(join(builtin, name), join(folder, name));
  }
  Deno.writeTextFileSync(join(folder, "chat_template.jinja"), template);
}
