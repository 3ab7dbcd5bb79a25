/**
 * The command line of `lorikeet generate`.
 *
 * @module
 */
import { z } from "zod";
import { command, parseFlags } from "../cli/command_line.ts";
import * as common from "../cli/common_settings.ts";
import { text, texts, whole, worded } from "../cli/settings.ts";
import { cacheKeys, modelKeys, runKeys, samplingKeys, templateKeys } from "./flags.ts";
import { ownTemplateFlags } from "./template_inputs.ts";

const schema = z.strictObject({
  ...modelKeys,
  prompt: texts("text", "the text to answer", 0).optional().describe(
    "What the model is asked. Give it several times for several answers at once; empty, with --template none, it asks for what follows BOS alone.",
  ),
  input: worded(z.string(), "text", "text").default("").describe(
    "The input that an Alpaca instruction is about.",
  ),
  data: text("file", "a JSON, JSON Lines, CSV, TSV or Parquet file, or builtin").optional()
    .describe(
      "Answer the instructions of this file (read as in training, outputs not needed) instead of --prompt.",
    ),
  messages: text("file", "a JSON file with messages").optional().describe(
    "Continue the conversation of this JSON file, a list of messages with role and content, instead of --prompt.",
  ),
  samples: common.samples,
  batch_size: whole(1, 256).default(8).describe("Prompts that are answered at once."),
  template: common.template(
    "What is put around the prompt: Alpaca's, Llama 2's or ChatML's words, the model's own chat template or a file, or nothing; auto is alpaca, and for --messages the model's own where it has one.",
  ),
  ...templateKeys,
  max_tokens: whole(1).default(128).describe("Stop after so many tokens."),
  stop: texts("text", "text that ends an answer").optional().describe(
    "Stop before this text. May be given several times.",
  ),
  ...samplingKeys,
  beams: whole(1, 32).default(1).describe(
    "Beam search: keep so many continuations and give the most likely one.",
  ),
  length_penalty: worded(z.number().min(-10).max(10), "number", "a number from -10 to 10")
    .default(1).describe(
      "Beams are compared by log-probability over length to this power; above 1 favours longer answers.",
    ),
  ...cacheKeys,
  ...runKeys,
});

const GENERATE = command(
  "generate",
  "--model M --prompt TEXT [--flag value ...]",
  "Answers prompts, until the model ends its answer: with the most likely token each time (greedy), or\n" +
    "drawn at random (--temperature), or with beam search (--beams). The answer is on stdout, as it is\n" +
    "made; everything else is on stderr.",
  schema,
);

/** The flags of `lorikeet generate`, checked, with every default filled in. */
export type GenerateFlags = z.output<typeof schema>;

/** Values that leave the model's own order of tokens alone. */
const DRAWING_OFF = { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 };

/** Flags that don't go together. One that is wrong by itself is not among them. */
function conflicts(flags: Partial<GenerateFlags>): string[] {
  const problems: string[] = [];
  const { prompt, data, messages, samples, input, beams = 1 } = flags;
  if ("prompt" in flags && "data" in flags && "messages" in flags) {
    const asked = Object.entries({ prompt, data, messages })
      .flatMap(([name, value]) => value === undefined ? [] : [`--${name}`]);
    if (asked.length !== 1) {
      const [first = "--prompt", ...others] = asked;
      const both = others.length === 0
        ? "is missing"
        : `and ${others.join(" and ")} are both given`;
      problems.push(
        `${first} ${both}; expected --prompt TEXT, --data FILE or --messages FILE`,
      );
    }
    if (samples !== undefined && data === undefined) {
      problems.push("--samples counts the instructions of --data, which is not given");
    }
    if (messages === undefined && flags.template === "auto") {
      problems.push(...ownTemplateFlags({ ...flags, template: "alpaca" }));
    } else problems.push(...ownTemplateFlags(flags));
    if (prompt?.includes("") && "template" in flags && flags.template !== "none") {
      problems.push(
        '--prompt is ""; expected the text to answer (an empty one, for what follows BOS alone, goes with ' +
          "--template none)",
      );
    }
    if (input && prompt?.length !== 1) {
      problems.push("--input belongs to one --prompt; with several, or --data, leave it out");
    }
  }
  if (flags.beams === 1 && (flags.length_penalty ?? 1) !== 1) {
    problems.push("--length-penalty compares beams; give it with --beams 2 or more");
  }
  if (beams > 1) {
    for (const [name, off] of Object.entries(DRAWING_OFF)) {
      const value = flags[name as keyof typeof DRAWING_OFF];
      if (value === undefined || value === off) continue;
      const dashed = name.replaceAll("_", "-");
      problems.push(`--${dashed} does not go with --beams ${beams}, which draws nothing`);
    }
  }
  return problems;
}

/**
 * The flags of `lorikeet generate`. `--help` prints the help and ends the program.
 *
 * @throws {UsageError} of all problems, one a line.
 */
export function parseGenerateArguments(args: string[]): GenerateFlags {
  return parseFlags(GENERATE, args, conflicts);
}
