/**
 * The command lines of `lorikeet generate` and `lorikeet score`.
 *
 * @module
 */
import { z } from "zod";
import { type CommandLine, helpIfAsked, readFlags, refuse } from "../model/command_line.ts";
import * as common from "../model/common_settings.ts";
import { checkValues, choice, describeKey, flag, text, whole, worded } from "../model/settings.ts";

/** What both commands need to know of the model. */
const modelKeys = {
  model: common.model,
  tokenizer: common.tokenizer,
  adapter: text("folder", "a PEFT adapter folder").optional().describe(
    "PEFT adapter folder to add to the model.",
  ),
  layers: common.layers,
  precision: choice(["mixed", "fp32"]).default("mixed").describe(
    "mixed stores and computes in f16 and adds up in f32; fp32 throughout.",
  ),
};

/** What both commands need to know of the machine and the output. */
const runKeys = {
  seed: whole(0, 2 ** 32 - 1).default(42).describe("Decides the weights of random: models."),
  gpu: common.gpu,
  json: flag().default(false).describe("Print one JSON object on stdout and nothing else there."),
  profile: flag().default(false).describe("Print the GPU's time by program on stderr (slower)."),
};

const generateSchema = z.strictObject({
  ...modelKeys,
  prompt: text("text", "the text to answer").describe("What the model is asked."),
  input: worded(z.string(), "text", "text").default("").describe(
    "The input that an Alpaca instruction is about.",
  ),
  template: choice(["alpaca", "none"]).default("alpaca").describe(
    "What is put around the prompt: the instructions of Alpaca, or nothing.",
  ),
  max_tokens: whole(1).default(128).describe("Stop after so many tokens."),
  kv_cache: flag().default(true).describe(
    "Keep the keys and values of earlier tokens; --no-kv-cache computes them anew for each token.",
  ),
  ...runKeys,
});

const scoreSchema = z.strictObject({
  ...modelKeys,
  data: common.data,
  samples: common.samples,
  max_length: common.max_length,
  ...runKeys,
});

/** The flags of `lorikeet generate`, checked, with every default filled in. */
export type GenerateFlags = z.output<typeof generateSchema>;

/** The flags of `lorikeet score`, checked, with every default filled in. */
export type ScoreFlags = z.output<typeof scoreSchema>;

/** The flags that both have. */
export type CommonFlags = Omit<ScoreFlags, "data" | "samples" | "max_length">;

function commandLine(
  name: string,
  usage: string,
  description: string,
  schema: z.ZodObject,
): CommandLine {
  const keys = Object.entries(schema.shape).map(([name, key]) =>
    describeKey(name, key as z.ZodType)
  );
  return { name: `lorikeet ${name}`, usage, description, keys };
}

const GENERATE = commandLine(
  "generate",
  "--model M --prompt TEXT [--flag value ...]",
  "Answers a prompt: the most likely token each time (greedy), until the model ends its answer. The\n" +
    "answer is on stdout, as it is made; everything else is on stderr.",
  generateSchema,
);

const SCORE = commandLine(
  "score",
  "--model M --data D [--flag value ...]",
  "Measures how likely the model finds the answers of a data set: negative log-likelihood (nats) and\n" +
    "perplexity per token of the answers.",
  scoreSchema,
);

function parse<S extends z.ZodObject>(line: CommandLine, schema: S, args: string[]): z.output<S> {
  helpIfAsked(line, args);
  const problems: string[] = [];
  const { givens, operands } = readFlags(line, args, problems);
  if (operands.length > 0) {
    problems.push(
      `got ${JSON.stringify(operands[0])}; expected only flags (quote a text of several words)`,
    );
  }
  const checked = checkValues(line.keys, givens, problems);
  refuse(problems);
  return schema.parse(Object.fromEntries(checked));
}

/**
 * The flags of `lorikeet generate`. `--help` prints the help and ends the program.
 *
 * @throws {UserError} With exit code 2 and all problems, one a line.
 */
export function parseGenerateArguments(args: string[]): GenerateFlags {
  return parse(GENERATE, generateSchema, args);
}

/** The flags of `lorikeet score`, as {@linkcode parseGenerateArguments} reads its own. */
export function parseScoreArguments(args: string[]): ScoreFlags {
  return parse(SCORE, scoreSchema, args);
}
