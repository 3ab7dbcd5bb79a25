/**
 * What `generate` is asked, as token ids: prompts, the rows of a data file, or a conversation.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import { noteLine } from "../kernels/terminal.ts";
import { contextLength } from "../model/families/config.ts";
import { chatEncoder, type ChatTemplate, type Message } from "../model/text/templates/chat.ts";
import { encodePrompt, type Instruction, renderPrompt, type Sample } from "../model/text/prompt.ts";
import type { GenerateFlags } from "./generate_flags.ts";
import type { FoundModel } from "../model/session.ts";
import { readJsonFile, resolveTemplate, templateInputs } from "./template_inputs.ts";

/** One prompt as ids. */
interface Prompt {
  ids: Uint32Array;
  template: ChatTemplate;
}

/** An instruction with its history as a conversation. */
function messagesOf({ system, history = [], ...question }: Instruction): Message[] {
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...history.flatMap(([question, answer]): Message[] => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]),
    { role: "user", content: renderPrompt(question, "none") },
  ];
}

/** The conversation of --messages. */
async function prepareConversation(
  { tokenizer, tokenizerPath }: FoundModel,
  flags: GenerateFlags,
  file: string,
): Promise<Prompt[]> {
  const template = resolveTemplate(flags.template, tokenizerPath);
  const { readMessages } = await import("../model/text/templates/chat_rendering.ts");
  const messages = readMessages(readJsonFile(file));
  const encode = await chatEncoder(template, tokenizer, templateInputs(flags, tokenizerPath));
  return [{ ids: encode(messages), template }];
}

/** The questions of a data file. */
async function readQuestions(data: string, limit?: number): Promise<Sample[]> {
  // The readers of data files are large, and a prompt does without them.
  const { loadSamples } = await import("../model/text/data/load.ts");
  const { samples, notes } = await loadSamples(data, { limit, outputs: false });
  notes.forEach((note) => noteLine(note));
  samples.forEach((sample, i) => {
    if (!("completion" in sample) || sample.prompt !== "") return;
    throw new UserError(`data file "${data}": row ${i + 1} is plain text, not an instruction`);
  });
  return samples;
}

/** The instructions of --prompt or --data. */
async function prepareInstructions(found: FoundModel, flags: GenerateFlags): Promise<Prompt[]> {
  const { tokenizer, tokenizerPath } = found, { prompt = [], input, data, samples } = flags;
  const template = flags.template === "auto" ? "alpaca" : flags.template;
  const asked: Sample[] = data !== undefined
    ? await readQuestions(data, samples)
    : prompt.map((instruction) =>
      // A prompt without a template stands for itself: control tokens in it count.
      template === "none"
        ? { prompt: renderPrompt({ instruction, input }, template), completion: "" }
        : { instruction, input, output: "" }
    );
  if (template === "alpaca" || template === "none") {
    const encode = (sample: Sample) =>
      "completion" in sample
        ? Uint32Array.from(tokenizer.encodeText(sample.prompt))
        : encodePrompt(tokenizer, renderPrompt(sample, template));
    return asked.map((sample) => ({ ids: encode(sample), template }));
  }
  const encode = await chatEncoder(template, tokenizer, templateInputs(flags, tokenizerPath));
  return asked.map((sample) => {
    const own = "completion" in sample;
    return { ids: encode(messagesOf(own ? { instruction: sample.prompt } : sample)), template };
  });
}

/**
 * The prompts as ids.
 *
 * @throws UserError where one leaves no room for an answer.
 */
export async function preparePrompts(
  found: FoundModel,
  flags: GenerateFlags,
): Promise<number[][]> {
  const { source } = found, context = contextLength(source.config);
  const prompts = flags.messages === undefined
    ? await prepareInstructions(found, flags)
    : await prepareConversation(found, flags, flags.messages);
  return prompts.map(({ ids, template }, i) => {
    if (ids.length === 0) {
      throw new UserError(
        "--prompt is empty, and the tokenizer puts no BOS before a text; expected a text, or --add-bos always",
      );
    }
    if (ids.length < context) return Array.from(ids);
    const has = `${ids.length} tokens${template === "none" ? "" : " with its template"}`;
    const which = prompts.length > 1 ? `prompt ${i + 1}` : "the prompt";
    throw new UserError(
      `${which} has ${has}, but model "${source.name}" has a context of ${context}; ` +
        `expected at most ${context - 1}, so that an answer has room`,
    );
  });
}
