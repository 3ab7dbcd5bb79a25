/**
 * The command line of `lorikeet chat`.
 *
 * @module
 */
import { z } from "zod";
import { command, parseFlags } from "../../cli/command_line.ts";
import * as common from "../../cli/common_settings.ts";
import { asFlag, text, whole, worded } from "../../cli/settings.ts";
import { type ServerUrl, serverUrl } from "../../cli/server_url.ts";
import { present } from "../../kernels/present.ts";
import { cacheKeys, modelKeys, runKeys, samplingKeys, templateKeys } from "../flags.ts";
import { ownTemplateFlags } from "../template_inputs.ts";

const { json: _, ...chatRunKeys } = runKeys;
const { model, ...loadedKeys } = modelKeys;

const schema = z.strictObject({
  model: text("path", "a model folder or GGUF file, random:<size>, or builtin").optional().describe(
    `${model.description} With --server, the name of one of its models; without it, the first.`,
  ),
  server: worded(
    z.string().refine((given) => serverUrl(given) !== undefined),
    "url",
    "the URL of a server, such as http://127.0.0.1:8080",
  ).optional().describe(
    "Load no model, but ask this server, one of serve or any other that answers as OpenAI's API does: http://127.0.0.1:8080.",
  ),
  api_key_file: text("file", "a file with an API key").optional().describe(
    "With --server, send the first API key of this file, which has one a line.",
  ),
  ...loadedKeys,
  template: common.template(
    "How the conversation is written out: Alpaca's or Llama 2's way, in ChatML, by the model's own chat template or a file, or plainly; auto is the model's own where it has one, else alpaca.",
  ),
  ...templateKeys,
  system: text("text", "instructions for the model").optional().describe(
    "Instructions before the conversation, where the template takes them.",
  ),
  context: whole(16).default(4096).describe(
    "Tokens of the conversation that are kept at most; the model's own context is a limit too.",
  ),
  max_tokens: whole(1).default(512).describe("End an answer after so many tokens."),
  ...samplingKeys,
  ...cacheKeys,
  ...chatRunKeys,
});
type ChatFlags = z.output<typeof schema>;

const CHAT = command(
  "chat",
  "--model M | --server URL [--flag value ...]",
  "A conversation: type a message, read the answer. /help lists what else can be typed; Ctrl-C stops an\n" +
    "answer, Ctrl-D leaves.",
  schema,
);

/** Of a model that is loaded here. */
export type LocalChatFlags = Omit<ChatFlags, "server" | "api_key_file"> & { model: string };

/** Of a conversation with a server. */
export interface ServerChatFlags {
  readonly server: ServerUrl;
  readonly model?: string;
  readonly api_key_file?: string;
  readonly system?: string;
  /** What requests say of how tokens are chosen. */
  readonly sampling: Readonly<Record<string, number>>;
}

/** Fields of OpenAI's API, which are always sent, so that answers are those of a model that is loaded here. */
const KNOWN_FIELDS = ["temperature", "top_p", "seed", "max_tokens"] as const;
/** Fields that other servers may not know: those who give them want them. */
const OWN_FIELDS = ["top_k", "min_p", "repetition_penalty"] as const;
/** The flags that go with --server. */
const SERVER_FLAGS: readonly string[] = [
  ...["server", "model", "api_key_file", "system"],
  ...KNOWN_FIELDS,
  ...OWN_FIELDS,
];

/** Flags that don't go together. @param given The names of those that were given. */
function conflicts(flags: Partial<ChatFlags>, given: ReadonlySet<string>): string[] {
  // One that is wrong is left out.
  const isAbsent = (name: "server" | "model") => name in flags && flags[name] === undefined;
  if (!isAbsent("server")) {
    return [...given].filter((name) => !SERVER_FLAGS.includes(name)).map((name) =>
      `${asFlag(name)} is for a model that is loaded here; it does not go with --server`
    );
  }
  return [
    ...(isAbsent("model")
      ? [
        "--model is missing; expected a model folder or GGUF file, random:<size>, or builtin, or --server with a URL",
      ]
      : []),
    ...(given.has("api_key_file")
      ? ["--api-key-file is for a server's key; expected --server with its URL"]
      : []),
    ...ownTemplateFlags(flags),
  ];
}

/**
 * The flags of `lorikeet chat`. `--help` prints the help and ends the program.
 *
 * @throws {UsageError} of all problems, one a line.
 */
export function parseChatArguments(args: string[]): { local: LocalChatFlags } | ServerChatFlags {
  let given: ReadonlySet<string> = new Set();
  const flags = parseFlags(CHAT, args, (checked, names) => {
    given = names;
    return conflicts(checked, names);
  });
  const { server, api_key_file, ...local } = flags, { model, system } = local;
  const url = server === undefined ? undefined : serverUrl(server);
  if (url === undefined) return { local: { ...local, model: present(model, "--model") } };
  const sent = [...KNOWN_FIELDS, ...OWN_FIELDS.filter((name) => given.has(name))];
  const sampling = Object.fromEntries(sent.map((name) => [name, flags[name]]));
  return { server: url, model, api_key_file, system, sampling };
}
