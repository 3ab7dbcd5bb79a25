/**
 * A conversation with a model that is loaded here.
 *
 * @module
 */
import { lessMemory } from "../../cli/less_memory.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { profileLines } from "../../kernels/gpu/profiler.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { contextLength } from "../../model/families/config.ts";
import { Answer } from "../../model/engine/answer.ts";
import { Engine } from "../../model/engine/engine.ts";
import type { EngineSizes } from "../../model/engine/slots.ts";
import { findModel } from "../../model/session.ts";
import { chatEncoder } from "../../model/text/templates/chat.ts";
import { templateOf } from "../../model/text/templates/template_names.ts";
import { stopTokens } from "../../model/text/tokenizer/stop_tokens.ts";
import { generateMode } from "../../model/transformer/modes.ts";
import { Conversation } from "../conversation.ts";
import { openLineInput } from "../line_input.ts";
import { cacheDtype, loadModel, typicalPrompt } from "../open.ts";
import { templateInputs } from "../template_inputs.ts";
import { converse, noteForgotten } from "./converse.ts";
import type { LocalChatFlags } from "./flags.ts";

/** Tokens of the context that an answer has room for at least. */
const LEAST_ANSWER = 32;

/** Loads the model, and talks with it. */
export async function localChat(flags: LocalChatFlags): Promise<void> {
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
    rehearse: (gpu, engine) =>
      engine.rehearse(gpu, [typicalPrompt(context)], {
        sampling: flags,
        maxTokens: flags.max_tokens,
        stop: [],
      }),
  });
  const { gpu, loaded: { also: engine } } = session;
  noteLine(
    `${source.name}, template ${template.name}, context ${context} tokens. /help lists the commands.`,
  );
  const stop = stopTokens(source.config, tokenizer, source.folder);
  const decode = (ids: readonly number[]) => tokenizer.decode(ids);
  await converse(openLineInput(), {
    get messages() {
      return conversation.messages;
    },
    about: { model: flags.model, adapter: flags.adapter ?? null },
    reset: () => conversation.reset(),
    reply: async (content, print, signal) => {
      const least = Math.min(LEAST_ANSWER, Math.ceil(context / 2));
      const { ids, forgotten } = conversation.ask(content, context - least);
      noteForgotten(forgotten);
      const answer = new Answer(decode, [], print);
      await generate(gpu, engine, ids, { flags, stop, answer, signal });
      answer.end();
      conversation.answer(answer.text.trim());
    },
  });
  if (gpu.profiler) noteLine(`\n${profileLines(await gpu.profiler.take()).join("\n")}`);
}

/** Answers until the model or the signal ends it. */
async function generate(
  gpu: Gpu,
  engine: Engine,
  ids: number[],
  { flags, stop, answer, signal }: {
    flags: LocalChatFlags;
    stop: number[];
    answer: Answer;
    signal: AbortSignal;
  },
): Promise<void> {
  const options = { sampling: flags, maxTokens: flags.max_tokens, stop, reuse: true };
  for await (const { id } of engine.generate(gpu, [ids], options)) {
    answer.push(id);
    if (signal.aborted) break;
  }
}
