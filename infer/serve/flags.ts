/**
 * The command line of `lorikeet serve`.
 *
 * @module
 */
import { basename } from "node:path";
import { z } from "zod";
import { command, parseFlags } from "../../cli/command_line.ts";
import * as common from "../../cli/common_settings.ts";
import { text, texts, whole } from "../../cli/settings.ts";
import { cacheKeys, modelKeys, runKeys, templateKeys } from "../flags.ts";
import { ownTemplateFlags } from "../template_inputs.ts";

const { adapter: _adapter, ...servedKeys } = modelKeys;

const schema = z.strictObject({
  ...servedKeys,
  adapter: texts("name=folder", "a name, =, and a PEFT adapter folder").default([]).describe(
    "An adapter to serve beside the model, and its name in requests: mine=runs/<time>/adapter. May be given several times.",
  ),
  port: whole(0, 65535).default(8080).describe("The port to listen on; 0 is any that is free."),
  host: text("address", "an IP address of this machine, such as 127.0.0.1 or 0.0.0.0")
    .default("127.0.0.1").describe(
      "The address to listen on. One that other machines reach needs --api-key-file.",
    ),
  api_key_file: text("file", "a file with an API key a line").optional().describe(
    "Answer only those who send one of this file's API keys, a line each.",
  ),
  origin: texts("url", "an address such as https://models.example.org").default([]).describe(
    "The address at which a reverse proxy shows the server to browsers: https://models.example.org. May be given several times.",
  ),
  template: common.template(
    "How conversations are written out: Alpaca's or Llama 2's way, in ChatML, by the model's own chat template or a file, or plainly; auto is the model's own where it has one, else alpaca.",
  ),
  template_kwargs: templateKeys.template_kwargs,
  sequences: whole(1, 1024).default(16).describe("Answers that are made at once."),
  context: whole(16).default(4096).describe(
    "Tokens of a prompt and its answer at most; the model's own context is a limit too.",
  ),
  queue: whole(0, 100_000).default(256).describe(
    "Answers that may wait for their turn; further requests are refused with status 429.",
  ),
  timeout: whole(1, 86_400).default(600).describe("Seconds after which an answer is ended."),
  cache_dtype: cacheKeys.cache_dtype,
  seed: whole(0, 2 ** 32 - 1).default(42).describe(
    "Decides the weights of random: models; requests have seeds of their own.",
  ),
  gpu: runKeys.gpu,
});

const SERVE = command(
  "serve",
  "--model M [--flag value ...]",
  "Answers requests as OpenAI's API does, of this machine or, with keys, of others. Ctrl-C finishes the\n" +
    "answers that are being made, a second one ends at once.",
  schema,
);

/** The flags of `lorikeet serve`, checked, with every default filled in. */
export type ServeFlags = z.output<typeof schema>;

/** Addresses that only this machine reaches. */
const LOOPBACK = /^(127(\.\d{1,3}){3}|::1)$/;
const ADDRESS = /^(\d{1,3}(\.\d{1,3}){3}|[\da-f:]*:[\da-f:.]*)$/i;

/** An adapter and its name. */
export interface AdapterFlag {
  readonly name: string;
  readonly folder: string;
}

/** What a value of --adapter says; undefined where it is no name and folder. */
export function adapterOf(given: string): AdapterFlag | undefined {
  const [, name, folder] = /^([^=\s]+)=(.+)$/.exec(given) ?? [];
  return name === undefined ? undefined : { name, folder };
}

/** Whether a value of --origin is the address of a web server, and no more. */
function isOrigin(given: string): boolean {
  if (!URL.canParse(given)) return false;
  const { protocol, href, origin } = new URL(given);
  return /^https?:$/.test(protocol) && href === `${origin}/`;
}

/** What a model is called: the last part of its path. */
export function modelName(model: string): string {
  return model.startsWith("random:") ? model : basename(model) || model;
}

/** Flags that don't go together. */
function conflicts(flags: Partial<ServeFlags>): string[] {
  const { host, api_key_file, adapter = [], origin = [] } = flags,
    problems = ownTemplateFlags(flags);
  const names = adapter.map((given) => adapterOf(given)?.name);
  for (const [i, name] of names.entries()) {
    if (name === undefined) {
      problems.push(
        `--adapter is "${adapter[i]}"; expected a name, = and a folder: mine=runs/<time>/adapter`,
      );
    } else if (names.indexOf(name) < i || name === modelName(flags.model ?? "")) {
      problems.push(`--adapter ${adapter[i]}: the name ${name} is taken; expected another one`);
    }
  }
  for (const given of origin.filter((given) => !isOrigin(given))) {
    problems.push(`--origin is "${given}"; expected an address such as https://models.example.org`);
  }
  if (host === undefined) return problems;
  if (!ADDRESS.test(host)) {
    problems.push(`--host is "${host}"; expected an IP address, such as 127.0.0.1 or 0.0.0.0`);
  } else if (!LOOPBACK.test(host) && api_key_file === undefined) {
    problems.push(
      `--host ${host} lets other machines ask; expected --api-key-file with the keys of those who may`,
    );
  }
  return problems;
}

/**
 * The flags of `lorikeet serve`. `--help` prints the help and ends the program.
 *
 * @throws {UsageError} of all problems, one a line.
 */
export function parseServeArguments(args: string[]): ServeFlags {
  return parseFlags(SERVE, args, conflicts);
}
