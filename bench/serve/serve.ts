/**
 * What a server does for many clients over HTTP: tokens a second, times to the first token and between tokens, and what a
 * beginning that prompts have in common saves.
 *
 * @module
 */
import { z } from "zod";
import { command, parseFlags } from "../../cli/command_line.ts";
import * as common from "../../cli/common_settings.ts";
import { choice, flag, text, texts, whole, worded } from "../../cli/settings.ts";
import { UsageError } from "../../kernels/errors.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { median } from "../../kernels/measure/timing.ts";
import { noteLine, printJson } from "../../kernels/terminal.ts";
import { readApiKeys } from "../../model/files/api_keys.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { contextLength } from "../../model/families/config.ts";
import { randomIds } from "../samples.ts";
import type { Address } from "./ask.ts";
import { loadServer } from "./load.ts";
import { writeMadeTokenizer } from "./made_tokenizer.ts";
import { printServed, type Served, type SharedPrefix } from "./report.ts";
import { memoryOf, runningServer, servedNames, withServer } from "./server.ts";
import { streamAnswer } from "./stream.ts";

const counts = worded(
  z.array(z.int().min(1).max(1024)).min(1),
  "integers",
  "numbers from 1 to 1024",
);

const schema = z.strictObject({
  url: text("url", "the address of a server").optional().describe(
    "Measure the server that runs there and not one that is started.",
  ),
  api_key_file: text("file", "a file with an API key a line").optional().describe(
    "A file whose first line is a key of the server at --url.",
  ),
  model: common.withDefault(common.model, "builtin"),
  tokenizer: common.tokenizer,
  adapter: texts("name=folder", "a name, =, and a PEFT adapter folder").default([]).describe(
    "An adapter to serve beside the model; clients ask for the model and the adapters in turn.",
  ),
  layers: common.layers,
  precision: choice(["mixed", "fp32"]).default("mixed").describe("As in generate."),
  quantization: common.quantization,
  double_quantization: common.double_quantization,
  quantization_skip: common.quantization_skip,
  clients: counts.default([1, 8, 32, 128]).describe("Clients at once, in turn."),
  prompt: whole(1).default(512).describe("Random tokens of a prompt."),
  tokens: whole(2).default(128).describe("Tokens of an answer."),
  rounds: whole(1).default(2).describe("Answers that each client asks for, one after the other."),
  prefix: whole(0).default(2000).describe(
    "Tokens that prompts have in common in the second part; 0 leaves it out.",
  ),
  gpu: common.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});

type Flags = z.output<typeof schema>;

const SERVE = command(
  "bench serve",
  "[--flag value ...]",
  "Measures a server with clients that ask over HTTP.",
  schema,
);

/** Answers of one client that are timed at least. */
const LEAST_ANSWERS = 4;
/** Tokens of a prompt after those that it has in common with others. */
const OWN_TOKENS = 32;
/** Prompts of each kind in the second part, of whose times the median counts. */
const PREFIX_RUNS = 7;
/** Slots of the server of the second part. */
const PREFIX_SLOTS = 4;
/** Ids are below this where a server's vocabulary isn't known: most have more. */
const COMMON_VOCAB = 1000;

/** Prompts that begin differently from each other. */
function promptMaker(vocab: number) {
  let made = 0;
  return (tokens: number) => randomIds(tokens, vocab, 1000 + made++);
}
type PromptMaker = ReturnType<typeof promptMaker>;

/** The flags of a server, for as many sequences of as many tokens. */
function serverWords(
  flags: Flags,
  { tokenizer, sequences, context }: { tokenizer?: string; sequences: number; context: number },
): string[] {
  const { model, layers, precision, quantization, double_quantization, gpu } = flags;
  const given = (name: string, value: unknown) => value === undefined ? [] : [name, `${value}`];
  return [
    ...["--model", model, "--precision", precision, "--gpu", gpu],
    ...given("--tokenizer", tokenizer),
    ...given("--layers", layers),
    ...["--quantization", quantization],
    ...(double_quantization ? [] : ["--no-double-quantization"]),
    ...given("--quantization-skip", flags.quantization_skip.join(",") || undefined),
    ...flags.adapter.flatMap((adapter) => ["--adapter", adapter]),
    ...["--sequences", `${sequences}`, "--context", `${context}`, "--queue", "1024"],
  ];
}

/**
 * Puts all loads on a server in turn. Before each is timed, as many clients ask at once, so that programs are compiled; one
 * of them asks what was asked alone before.
 */
async function measureLoads(
  server: Address,
  { clients, tokens, prompt, rounds }: Flags,
  next: PromptMaker,
): Promise<Served["rows"]> {
  const models = await servedNames(server), rows: Served["rows"] = [];
  const alone = { server, model: models[0], prompt: next(prompt), tokens };
  const { text: expected } = await streamAnswer(alone);
  for (const count of clients) {
    const others = { clients: count - 1, rounds: 1, tokens, models, prompt: () => next(prompt) };
    const [{ text }] = await Promise.all([
      streamAnswer(alone),
      ...(count > 1 ? [loadServer(server, others)] : []),
    ]);
    const result = await loadServer(server, {
      ...others,
      clients: count,
      rounds: Math.max(rounds, Math.ceil(LEAST_ANSWERS / count)),
    });
    const { resident_bytes, ...row } = result;
    const { tokens_per_second, first_token_ms } = row;
    noteLine(
      `${count} clients: ${tokens_per_second.toFixed(0)} tokens/s, ` +
        `first token after ${first_token_ms.p50.toFixed(0)} ms (median)`,
    );
    rows.push({
      ...row,
      times_first_row: row.tokens_per_second /
        (rows[0]?.tokens_per_second ?? row.tokens_per_second),
      resident_mb: megabytes(resident_bytes),
      answers_alike: text === expected,
    });
  }
  return rows;
}

/** Times to the first token of prompts that begin alike, and of others that are as long. */
async function measurePrefix(
  server: Address,
  prefix: number,
  next: PromptMaker,
): Promise<SharedPrefix> {
  noteLine(`prompts that begin with the same ${prefix} tokens`);
  const [model] = await servedNames(server), shared = next(prefix);
  const first = async (prompt: number[]) =>
    (await streamAnswer({ server, model, prompt, tokens: 1 })).first;
  const times = { alone: [] as number[], shared: [] as number[] };
  // The first of each kind is not counted: programs are compiled in it, and the beginning is computed.
  for (let run = 0; run <= PREFIX_RUNS; run++) {
    const alone = await first(next(prefix + OWN_TOKENS));
    const after = await first([...shared, ...next(OWN_TOKENS)]);
    if (run > 0) (times.alone.push(alone), times.shared.push(after));
  }
  const [first_token_ms, shared_first_token_ms] = [median(times.alone), median(times.shared)];
  return {
    prefix,
    own: OWN_TOKENS,
    first_token_ms,
    shared_first_token_ms,
    ratio: first_token_ms / shared_first_token_ms,
  };
}

type Use<T> = (server: Address) => Promise<T>;

/** Measures a server that runs already. */
async function measureRunning(flags: Flags, url: string): Promise<Served> {
  const [key] = flags.api_key_file === undefined ? [] : readApiKeys(flags.api_key_file);
  const server = runningServer(url, key);
  const next = promptMaker(COMMON_VOCAB), { prefix } = flags;
  const rows = await measureLoads(server, flags, next);
  const [model] = await servedNames(server), { gpu } = await memoryOf(server);
  return {
    model,
    prompt: flags.prompt,
    tokens: flags.tokens,
    gpu_mb: megabytes(gpu),
    rows,
    shared_prefix: prefix > 0 ? await measurePrefix(server, prefix, next) : undefined,
  };
}

/** Starts servers that are as large as each part needs, and measures them. */
async function measureStarted(flags: Flags): Promise<Served> {
  const { model, quantization, clients, prompt, tokens, prefix, json: quiet } = flags;
  const { config, weights, tokenizerPath } = openModel(model, flags.layers);
  weights?.close();
  const next = promptMaker(config.vocab_size), limit = contextLength(config);
  if (prompt + tokens > limit || (prefix > 0 && prefix + OWN_TOKENS + 1 > limit)) {
    throw new UsageError(
      `${model} takes ${limit} tokens; expected --prompt and --tokens together, and --prefix with ${
        OWN_TOKENS + 1
      } more, of at most so many`,
    );
  }
  const folder = Deno.makeTempDirSync();
  try {
    const tokenizer = flags.tokenizer ??
      (tokenizerPath === undefined ? writeMadeTokenizer(folder, config.vocab_size) : undefined);
    const serving = <T>(sizes: { sequences: number; context: number }, use: Use<T>) =>
      withServer(serverWords(flags, { tokenizer, ...sizes }), quiet, use);
    const result = await serving(
      { sequences: Math.max(...clients), context: Math.max(16, prompt + tokens) },
      async (server) => {
        const rows = await measureLoads(server, flags, next);
        const gpu_mb = megabytes((await memoryOf(server)).gpu);
        return { model, quantization, prompt, tokens, gpu_mb, rows };
      },
    );
    if (prefix === 0) return result;
    // Long prompts in as many slots would not fit.
    const shared_prefix = await serving(
      { sequences: PREFIX_SLOTS, context: prefix + OWN_TOKENS + 1 },
      (server) => measurePrefix(server, prefix, next),
    );
    return { ...result, shared_prefix };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Runs the bench and prints tables, or JSON. */
export async function benchServe(args: string[]): Promise<void> {
  const flags = parseFlags(SERVE, args), { url, json } = flags;
  const served = await (url === undefined ? measureStarted(flags) : measureRunning(flags, url));
  if (json) printJson(served, 2);
  else printServed(served);
}
