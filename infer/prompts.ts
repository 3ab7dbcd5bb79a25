/**
 * What `generate` is asked, as token ids: prompts, the rows of a data file, or a conversation.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import { noteLine } from "../kernels/terminal.ts";
import { contextLength } from "../model/families/config.ts";
import { chatEncoder, type Message } from "../model/text/templates/chat.ts";
import { type NamedTemplate, templateOf } from "../model/text/templates/template_names.ts";
import { encodePrompt, renderPrompt, type TextSample } from "../model/text/prompt.ts";
import { conversationOf, isChat, type Sample } from "../model/text/sample.ts";
import { SampleEncoder } from "../model/text/sample_encoder.ts";
import type { GenerateFlags } from "./generate_flags.ts";
import type { FoundModel } from "../model/session.ts";
import { readJsonFile, templateInputs } from "./template_inputs.ts";

/** One prompt as ids. */
interface Prompt {
  ids: Uint32Array;
  template: NamedTemplate;
}

/** An instruction, or a prompt, as a conversation. */
function questionOf(sample: TextSample): readonly Message[] {
  if ("completion" in sample) return [{ role: "user", content: sample.prompt }];
  return conversationOf(sample).slice(0, -1);
}

/** The conversation of --messages. */
async function prepareConversation(
  { tokenizer, tokenizerPath }: FoundModel,
  flags: GenerateFlags,
  file: string,
): Promise<Prompt[]> {
  const template = templateOf(flags.template, tokenizerPath);
  const { readMessages } = await import("../model/text/templates/chat_rendering.ts");
  const messages = readMessages(readJsonFile(file));
  const inputs = templateInputs(flags, tokenizerPath, template);
  const encode = await chatEncoder(template.kind, tokenizer, inputs);
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
  const asked: Sample[] = data !== undefined
    ? await readQuestions(data, samples)
    : prompt.map((instruction) =>
      // A prompt without a template stands for itself: control tokens in it count.
      flags.template === "none"
        ? { prompt: renderPrompt({ instruction, input }, "none"), completion: "" }
        : { instruction, input, output: "" }
    );
  const plain = templateOf(flags.template === "auto" ? "alpaca" : flags.template, tokenizerPath);
  const inputs = templateInputs(flags, tokenizerPath, plain);
  const encode = await chatEncoder(plain.kind, tokenizer, inputs);
  const chat = templateOf(flags.template, tokenizerPath);
  const encoder = new SampleEncoder(tokenizer, { ...flags, tokenizerPath, tools: inputs.tools });
  const prompts: Prompt[] = [];
  for (const sample of asked) {
    if (isChat(sample)) {
      await encoder.openFor(sample);
      prompts.push({ ids: encoder.prompt(sample), template: chat });
    } else if (plain.kind !== "alpaca" && plain.kind !== "none") {
      prompts.push({ ids: encode(questionOf(sample)), template: plain });
    } else {
      const ids = "completion" in sample
        ? Uint32Array.from(tokenizer.encodeText(sample.prompt))
        : encodePrompt(tokenizer, renderPrompt(sample, plain.kind));
      prompts.push({ ids, template: plain });
    }
  }
  return prompts;
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
    const has = `${ids.length} tokens${template.kind === "none" ? "" : " with its template"}`;
    const which = prompts.length > 1 ? `prompt ${i + 1}` : "the prompt";
    throw new UserError(
      `${which} has ${has}, but model "${source.name}" has a context of ${context}; ` +
        `expected at most ${context - 1}, so that an answer has room`,
    );
  });
}
