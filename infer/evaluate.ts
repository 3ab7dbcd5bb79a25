/**
 * `lorikeet evaluate`: tasks of lm-evaluation-harness on data that lies on disk.
 *
 * @module
 */
import { z } from "zod";
import { command, parseFlags } from "../cli/command_line.ts";
import { lessMemory } from "../cli/less_memory.ts";
import { ProgressBar } from "../cli/progress.ts";
import { runMain } from "../cli/run_main.ts";
import { flag, text, texts, whole, worded } from "../cli/settings.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { profileLines } from "../kernels/gpu/profiler.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { Engine } from "../model/engine/engine.ts";
import { archSpec, contextLength } from "../model/families/config.ts";
import { findModel, type FoundModel } from "../model/session.ts";
import { stopTokens } from "../model/text/tokenizer/stop_tokens.ts";
import {
  continuationMode,
  planContinuations,
  rehearseContinuations,
  scoreContinuations,
} from "../model/transformer/continuations.ts";
import { longestSharing } from "../model/transformer/layers.ts";
import { generateMode, type Score, storageOf } from "../model/transformer/modes.ts";
import { chatRenderer } from "./evaluate/chat.ts";
import { RequestEncoder } from "./evaluate/encoding.ts";
import { answerPrompts, engineSizes, rehearseAnswers } from "./evaluate/generation.ts";
import { openOutputs } from "./evaluate/output.ts";
import { type EvaluationSettings, type PreparedTask, prepareTask } from "./evaluate/prepare.ts";
import { resultsObject, sampleLine, tableLines } from "./evaluate/report.ts";
import { makeRequests, type Requests } from "./evaluate/requests.ts";
import { groupResults, type Responses, taskResults } from "./evaluate/results.ts";
import { loadTasks } from "./evaluate/task_files.ts";
import { modelKeys, runKeys, templateKeys } from "./flags.ts";
import { loadModel } from "./open.ts";

/** Tokens of a pass, where nothing is said: more are no faster. */
const PASS_TOKENS = 2048;
/** Fewer rows are encoded before a bar could be read. */
const QUICK_ROWS = 1000;
/** Answers at once, where nothing is said, and tokens that their keys and values may be of. */
const SEQUENCES = 16, CACHED_TOKENS = 16_384;

const schema = z.strictObject({
  ...modelKeys,
  tasks: texts("file", "a YAML file of a task or a group, as lm-evaluation-harness has them")
    .describe(
      "YAML file of a task or a group of tasks in lm-evaluation-harness's format; may be repeated.",
    ),
  limit: worded(
    z.number().positive().refine((limit) => limit < 1 || Number.isInteger(limit)),
    "number",
    "a whole number of rows, or a share of them below 1",
  ).optional().describe("Only so many of the first rows of a task, or below 1 this share of them."),
  num_fewshot: whole(0).optional().describe(
    "Few-shot examples before a question, in place of what tasks say; tasks that say 0 keep it.",
  ),
  fewshot_seed: whole(0, 2 ** 32 - 1).default(1234).describe(
    "What few-shot examples are drawn by, as by Python's random.Random.",
  ),
  batch_size: worded(
    z.union([z.literal("auto"), z.int().min(1)]),
    "integer|auto",
    "a whole number of at least 1, or auto",
  ).default("auto").describe(
    "Requests of a pass, and answers at once, at most; auto is as many as make 2048 tokens, and up to 16 answers.",
  ),
  max_length: whole(2).optional().describe(
    "Tokens that the model reads at most, in place of its own limit; longer contexts lose their beginning.",
  ),
  apply_chat_template: flag().default(false).describe(
    "Write questions as conversations by the model's own template.",
  ),
  fewshot_as_multiturn: flag().default(true).describe(
    "With a chat template, few-shot examples are turns of their own; else all is one of the user's.",
  ),
  template_kwargs: templateKeys.template_kwargs,
  system_instruction: text("text", "a text").optional().describe(
    "Instruction before the description of every task.",
  ),
  bootstrap_iters: whole(0, 10_000_000).default(100_000).describe(
    "Resamples for standard errors of metrics that are no means; 0 for no standard errors.",
  ),
  output: text("file", "the name of a JSON file").optional().describe(
    "Write the results to this file as JSON.",
  ),
  log_samples: text("file", "the name of a JSON Lines file").optional().describe(
    "Write every row with its requests, responses and metrics to this file as JSON Lines.",
  ),
  ...runKeys,
});

const EVALUATE = command(
  "evaluate",
  "--model M --tasks FILE [--flag value ...]",
  "Measures a model on tasks in lm-evaluation-harness's format, whose data lies on disk: choices by\n" +
    "log-likelihood, perplexity of texts, and exact matches of generated answers.",
  schema,
);

type EvaluateFlags = z.output<typeof schema>;

/** How questions are written. */
function settingsOf(flags: EvaluateFlags, { tokenizer, tokenizerPath }: FoundModel) {
  const settings: EvaluationSettings = {
    limit: flags.limit,
    numFewshot: flags.num_fewshot,
    fewshotSeed: flags.fewshot_seed,
    systemInstruction: flags.system_instruction,
    fewshotAsMultiturn: flags.fewshot_as_multiturn,
    chat: flags.apply_chat_template
      ? chatRenderer({ tokenizer, folder: tokenizerPath, variables: flags.template_kwargs })
      : undefined,
  };
  return settings;
}

/** What the model answers to all requests. */
async function respond(
  found: FoundModel,
  flags: EvaluateFlags,
  { continuations, prompts }: Requests,
): Promise<Responses> {
  const { source: { config, folder }, tokenizer } = found;
  const auto = flags.batch_size === "auto";
  const plan = planContinuations(continuations, {
    tokens: auto ? PASS_TOKENS : Infinity,
    continuations: flags.batch_size === "auto" ? Infinity : flags.batch_size,
    longestSharing: longestSharing(archSpec(config)),
  });
  const sizes = prompts.length === 0 ? undefined : engineSizes(prompts, {
    sequences: flags.batch_size === "auto" ? SEQUENCES : flags.batch_size,
    tokens: auto ? CACHED_TOKENS : Infinity,
    cache: storageOf(flags.precision),
  });
  const scored = continuationMode(plan), generated = sizes && generateMode(sizes);
  const mode: Score = {
    ...scored,
    maxTokens: Math.max(scored.maxTokens, generated?.maxTokens ?? 0),
    maxTargets: Math.max(scored.maxTargets, generated?.maxTargets ?? 0),
    decoding: generated?.decoding ?? null,
  };
  await using session = await loadModel(found, flags, {
    mode,
    also: (memory, model) => sizes && new Engine(memory, model, sizes),
    advice: lessMemory("a smaller --batch-size or --max-length"),
    rehearse: (gpu, engine, model) => {
      rehearseContinuations(gpu, model, plan);
      if (engine !== undefined) rehearseAnswers(gpu, engine, prompts);
    },
  });
  const { gpu, loaded: { model, also: engine } } = session;
  const scoring = new ProgressBar("Scoring", continuations.length);
  const outcomes = await scoreContinuations(
    gpu,
    model,
    plan,
    (done) => scoring.update(done, "requests"),
  );
  let answers: string[] = [];
  if (engine !== undefined) {
    const bar = new ProgressBar("Answering", prompts.length);
    const answering = {
      engine,
      decode: (ids: readonly number[]) => tokenizer.decode(ids),
      stop: stopTokens(config, tokenizer, folder),
      stopText: tokenizer.token(tokenizer.eos_id) ?? "",
    };
    answers = await answerPrompts(gpu, prompts, answering, (done) => bar.update(done, "prompts"));
  }
  noteLine(`Peak GPU memory: ${megabytes(gpu.memory.peakTotal).toFixed(1)} MB`);
  if (gpu.profiler) noteLine(`\n${profileLines(await gpu.profiler.take()).join("\n")}`);
  return { outcomes, answers };
}

/** Runs the command. */
export async function evaluate(args: string[]): Promise<void> {
  const flags = parseFlags(EVALUATE, args);
  const loaded = loadTasks(flags.tasks);
  using outputs = openOutputs(flags);
  const found = await findModel(flags);
  const settings = settingsOf(flags, found);
  const prepared: PreparedTask[] = [];
  for (const task of loaded.tasks) prepared.push(await prepareTask(task, settings));
  const { config } = found.source;
  // As lm-evaluation-harness has it: without what RoPE is scaled by, which --max-length may make use of.
  const { max_length: maxLength = config.max_position_embeddings } = flags;
  const encoder = new RequestEncoder(
    found.tokenizer,
    Math.min(maxLength, contextLength(config)),
  );
  const rows = prepared.reduce((sum, { rows }) => sum + rows.length, 0);
  const encoding = rows < QUICK_ROWS ? undefined : new ProgressBar("Encoding", rows);
  const requests = makeRequests(prepared, encoder, (done) => encoding?.update(done, "rows"));
  const { continuations, prompts, truncated } = requests;
  noteLine(
    `Tasks: ${
      prepared.map(({ task }) => task.name).join(", ")
    }; ${continuations.length} continuations to score, ` +
      `${prompts.length} prompts to answer`,
  );
  if (truncated > 0) {
    noteLine(
      `  ${truncated} of them lose their beginning: the model reads ${encoder.maxLength} tokens`,
    );
  }
  const responses = await respond(found, flags, requests);
  const tasks = taskResults(requests, responses, flags.bootstrap_iters);
  const results = { tasks, groups: groupResults(loaded.groups, tasks) };
  const { tasks: files, model, adapter, precision, quantization } = flags;
  const object = resultsObject(results, {
    model,
    adapter: adapter ?? null,
    precision,
    quantization,
    tasks: files,
    limit: flags.limit ?? null,
    fewshot_seed: flags.fewshot_seed,
    max_length: encoder.maxLength,
    apply_chat_template: flags.apply_chat_template,
    system_instruction: flags.system_instruction ?? null,
    bootstrap_iters: flags.bootstrap_iters,
  });
  outputs.results?.write([`${JSON.stringify(object, null, 2)}\n`]);
  outputs.samples?.write(
    tasks.values().flatMap(({ prepared: { task }, rows }) =>
      rows.values().map((row) => `${sampleLine(task.name, row)}\n`)
    ),
  );
  if (flags.json) printJson(object);
  else printLine(tableLines(results).join("\n"));
}

if (import.meta.main) await runMain(evaluate);
