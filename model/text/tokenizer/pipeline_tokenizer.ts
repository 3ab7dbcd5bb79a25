/**
 * A tokenizer that a folder's files describe, as the rest of the program uses it.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { joinText } from "./special_tokens.ts";
import type { AddedToken } from "./pipeline/added_tokens.ts";
import { tokenIds } from "./pipeline/models.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { postProcessor } from "./pipeline/post_processor.ts";
import type { IsPlain, Tokenizer } from "./tokenizer.ts";
import { textEncoder } from "./text_encoding.ts";
import type { TokenizerClass } from "./transformers_class.ts";

/** A tokenizer as its files describe it. */
export interface FolderTokenizer {
  /** The file that holds the vocabulary. */
  file: string;
  pipeline: Pipeline;
  /** Texts of the named tokens, as templates see them. */
  named: ReadonlyMap<string, string>;
  /** Control tokens without a name. */
  extra: readonly string[];
  /** Control tokens written out in a text are always letters. */
  split_special_tokens: boolean;
  /** The class of `transformers` that reads it so. */
  tokenizer_class: TokenizerClass;
  /** `eos_token_id` of config.json, the first of several; for a tokenizer that names no end token. */
  config_eos_id: number | undefined;
}

/** What is wrong with the tokenizer as a message that names it. */
function named<T>(name: string, compute: () => T): T {
  try {
    return compute();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`tokenizer "${name}" ${error.message}`);
  }
}

/** The largest id, plus one. */
function size(ids: Iterable<number>): number {
  let above = 0;
  for (const id of ids) above = Math.max(above, id + 1);
  return above;
}

/** The id of the end token: the one that the tokenizer names, else config.json's. */
function endId({ pipeline, named, config_eos_id }: FolderTokenizer): number {
  const eos = named.get("eos_token");
  const id = eos === undefined ? config_eos_id : pipeline.added.id(eos);
  if (id === undefined) {
    throw new RangeError(
      "does not say which token is EOS; expected eos_token in tokenizer_config.json or " +
        "special_tokens_map.json, or eos_token_id in config.json",
    );
  }
  if (!pipeline.texts.has(id)) {
    throw new RangeError(`has no token ${id}, which config.json names for EOS`);
  }
  return id;
}

/**
 * The token that Code Llama's class of `transformers` never gives to a model: it puts the texts before and after it in
 * another order, between tokens of their own, and leaves out what nothing follows.
 */
function gapToken({ tokenizer_class, named, pipeline }: FolderTokenizer) {
  const text = tokenizer_class === "CodeLlamaTokenizer" ? named.get("fill_token") : undefined;
  const id = text === undefined ? undefined : pipeline.added.id(text);
  return text === undefined || id === undefined ? undefined : { text, id };
}

/** The parts with the white space taken out that control tokens beside it take. */
function trimmed(
  parts: readonly (string | number)[],
  tokens: ReadonlyMap<number, AddedToken>,
): (string | number)[] {
  const takes = (part: string | number | undefined, side: "lstrip" | "rstrip") =>
    typeof part === "number" && tokens.get(part)?.[side] === true;
  return parts.map((part, i) => {
    if (typeof part === "number") return part;
    const from = takes(parts[i - 1], "rstrip") ? part.replace(/^\p{White_Space}+/u, "") : part;
    return takes(parts[i + 1], "lstrip") ? from.replace(/\p{White_Space}+$/u, "") : from;
  });
}

/**
 * The tokenizer.
 * @throws {UserError} where it has no end token, or its post-processor can't be used.
 */
export function pipelineTokenizer(folder: FolderTokenizer): Tokenizer {
  const { file: name, pipeline, named: names, split_special_tokens } = folder;
  const { added, texts } = pipeline;
  return named(name, () => {
    const { prefix, suffix } = postProcessor(pipeline.parts.post_processor);
    const bos = names.get("bos_token");
    const bos_id = bos === undefined ? undefined : added.id(bos);
    const eos_id = endId(folder);
    const special_tokens = new Map<string, number>();
    for (const [id, { content }] of added.tokens) {
      if (added.isSpecial(content)) special_tokens.set(content, id);
    }
    for (const id of [bos_id, eos_id]) {
      const text = id === undefined ? undefined : texts.get(id);
      if (id !== undefined && text !== undefined) special_tokens.set(text, id);
    }
    const encode = (text: string) =>
      named(name, () => pipeline.encode(text.toWellFormed(), "ordinary"));
    const parsed = split_special_tokens ? "split" : "all";
    const gap = gapToken(folder);
    const encodeSections = (text: string, isPlain?: IsPlain) =>
      named(name, () => {
        const sections = pipeline.sections(text.toWellFormed(), parsed, { isPlain });
        if (gap !== undefined && sections.some(({ ids }) => ids.includes(gap.id))) {
          throw new RangeError(
            `reads ${gap.text} as a gap between two parts of a text, which is not supported; ` +
              "expected a text without it",
          );
        }
        return sections;
      });
    const encodeSpecial = (text: string, isPlain?: IsPlain) =>
      encodeSections(text, isPlain).flatMap(({ ids }) => ids);
    const base_vocab_size = size(tokenIds(pipeline.parts.model).values());
    return {
      vocab_size: Math.max(base_vocab_size, size(added.tokens.keys())),
      base_vocab_size,
      bos_id,
      eos_id,
      prefix_ids: prefix,
      suffix_ids: suffix,
      add_bos: "auto",
      named_tokens: names,
      special_tokens,
      token: (id) => texts.get(id),
      encode,
      encodeSpecial,
      encodeSections,
      encodeText: textEncoder({ bos_id, eos_id, prefix, suffix, encodeSpecial }),
      encodeParts: (parts) =>
        named(
          name,
          () =>
            trimmed(joinText(parts), added.tokens).flatMap((part, i) =>
              typeof part === "number"
                ? part
                : pipeline.encode(part.toWellFormed(), "ordinary", { first: i === 0 })
            ),
        ),
      decode: (ids) => pipeline.decode(ids),
    };
  });
}
