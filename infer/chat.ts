/**
 * `lorikeet chat`: a conversation in the terminal.
 *
 * @module
 */
import { z } from "zod";
import { lessMemory } from "../cli/less_memory.ts";
import { runMain } from "../cli/run_main.ts";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { profileLines } from "../kernels/gpu/profiler.ts";
import { noteError, noteLine, printText } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import * as common from "../cli/common_settings.ts";
import { text, whole } from "../cli/settings.ts";
import { contextLength } from "../model/families/config.ts";
import { Engine } from "../model/engine/engine.ts";
import type { EngineSizes } from "../model/engine/slots.ts";
import { generateMode } from "../model/transformer/modes.ts";
import { writeJson } from "../model/files/json_file.ts";
import { exists } from "../model/files/whole_file.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import { chatEncoder } from "../model/text/templates/chat.ts";
import { stopTokens } from "../model/text/tokenizer/stop_tokens.ts";
import { Answer } from "../model/engine/answer.ts";
import { Conversation } from "./conversation.ts";
import { cacheKeys, modelKeys, runKeys, samplingKeys, templateKeys } from "./flags.ts";
import { type LineInput, openLineInput } from "./line_input.ts";
import { findModel } from "../model/session.ts";
import { cacheDtype, loadModel } from "./open.ts";
import { ownTemplateFlags, templateInputs } from "./template_inputs.ts";
import { templateOf } from "../model/text/templates/template_names.ts";

const { json: _, ...chatRunKeys } = runKeys;

const schema = z.strictObject({
  ...modelKeys,
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
  "--model M [--flag value ...]",
  "A conversation: type a message, read the answer. /help lists what else can be typed; Ctrl-C stops an\n" +
    "answer, Ctrl-D leaves.",
  schema,
);

const HELP = `/reset       forget the conversation
/save FILE   write the conversation to a JSON file
/help        this
/exit        leave (Ctrl-D does too); Ctrl-C stops an answer`;

/** Tokens of the context that an answer has room for at least. */
const LEAST_ANSWER = 32;

/** Runs the command. */
export async function chat(args: string[]): Promise<void> {
  const flags = parseFlags(CHAT, args, ownTemplateFlags);
  const found = await findModel(flags);
  const { source, tokenizer, tokenizerPath } = found;
  const template = templateOf(flags.template, tokenizerPath);
  // What is wrong with the template is said now and not at every message.
  const inputs = templateInputs(flags, tokenizerPath, template);
  const encode = await chatEncoder(template.kind, tokenizer, inputs);
  const context = Math.min(flags.context, contextLength(source.config));
  const sizes: EngineSizes = {
    sequences: 1,
    context,
    promptTokens: context,
    cache: flags.kv_cache ? cacheDtype(flags) : undefined,
  };
  const conversation = new Conversation(encode, flags.system);
  const penalized = flags.repetition_penalty !== 1;
  await using session = await loadModel(found, flags, {
    mode: generateMode(sizes),
    also: (memory, model) => new Engine(memory, model, sizes, { penalized }),
    advice: lessMemory("a smaller --context"),
  });
  const { gpu, loaded: { also: engine } } = session;
  await gpu.finish();
  noteLine(
    `${source.name}, template ${template.name}, context ${context} tokens. /help lists the commands.`,
  );
  const stop = stopTokens(source.config, tokenizer, source.folder);
  const decode = (ids: readonly number[]) => tokenizer.decode(ids);
  await converse(openLineInput(), conversation, flags, async (content, print) => {
    const least = Math.min(LEAST_ANSWER, Math.ceil(context / 2));
    const { ids, forgotten } = conversation.ask(content, context - least);
    if (forgotten > 0) {
      noteLine(
        `(the oldest ${forgotten === 1 ? "turn was" : `${forgotten} turns were`} ` +
          "forgotten: the context is full)",
      );
    }
    const answer = new Answer(decode, [], print);
    await interruptible(gpu, engine, ids, { flags, stop, answer });
    answer.end();
    conversation.answer(answer.text.trim());
  });
  if (gpu.profiler) noteLine(`\n${profileLines(await gpu.profiler.take()).join("\n")}`);
}

/** Answers until the model or Ctrl-C ends it. */
async function interruptible(
  gpu: Gpu,
  engine: Engine,
  ids: number[],
  { flags, stop, answer }: { flags: ChatFlags; stop: number[]; answer: Answer },
): Promise<void> {
  let aborted = false;
  const abort = () => aborted = true;
  Deno.addSignalListener("SIGINT", abort);
  try {
    const options = { sampling: flags, maxTokens: flags.max_tokens, stop, reuse: true };
    for await (const { id } of engine.generate(gpu, [ids], options)) {
      answer.push(id);
      if (aborted) break;
    }
  } finally {
    Deno.removeSignalListener("SIGINT", abort);
  }
}

/** Reads messages and commands until the end of input. */
async function converse(
  input: LineInput,
  conversation: Conversation,
  { model, adapter }: ChatFlags,
  reply: (content: string, print: (text: string) => void) => Promise<void>,
): Promise<void> {
  while (true) {
    const line = (await input.read("> "))?.trim();
    if (line === undefined || line === "/exit") return;
    if (line === "") continue;
    try {
      if (!line.startsWith("/")) {
        await reply(line, printText);
        printText("\n");
        continue;
      }
      const [command, file = ""] = line.split(/\s+(.*)/);
      if (command === "/help") noteLine(HELP);
      else if (command === "/reset") {
        conversation.reset();
        noteLine("(forgotten)");
      } else if (command === "/save") {
        save(file, { model, adapter: adapter ?? null, messages: conversation.messages });
        noteLine(`(written to ${file})`);
      } else {
        throw new UserError(`${command} is unknown; expected /reset, /save FILE, /help or /exit`);
      }
    } catch (error) {
      // A mistake in what was typed ends nothing; a model that can't answer does.
      if (!(error instanceof UserError) || error instanceof NotFinite) throw error;
      noteError(error.message);
    }
  }
}

function save(file: string, content: unknown): void {
  if (file === "") throw new UserError("/save needs the name of a file to write");
  if (exists(file)) throw new UserError(`${file} exists already and is not overwritten`);
  writeJson(file, content);
}

if (import.meta.main) await runMain(chat);
