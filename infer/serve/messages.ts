/**
 * What the thread that feeds the GPU and the thread that answers requests say to each other. The second has the
 * tokenizer, the first the model: between them go token ids.
 *
 * @module
 */
import type { SequenceOptions, TokenLogprobs } from "../../model/engine/engine.ts";
import type { AddBos } from "../../model/text/tokenizer/tokenizer.ts";
import type { TemplateName } from "../../model/text/templates/template_names.ts";
import type { Grammar } from "./grammar/json_schema.ts";
import type { Vocabulary } from "./grammar/masks.ts";

/** What is served, where, and within which bounds. */
export interface ServeSettings {
  readonly host: string;
  readonly port: number;
  /** Keys of those who may ask; all may where there are none. */
  readonly keys: readonly string[];
  /** Origins under which a proxy shows it. */
  readonly origins: readonly string[];
  readonly model: string;
  /** Names of what is served: the model's, then those of its adapters. */
  readonly names: readonly string[];
  readonly tokenizer?: string;
  readonly add_bos: AddBos;
  readonly layers?: number;
  readonly template: TemplateName;
  /** Variables of the model's own template, as JSON. */
  readonly template_kwargs?: string;
  /** Sequences at once. */
  readonly sequences: number;
  /** Tokens of a sequence at most, prompt and answer. */
  readonly context: number;
  /** Sequences that may wait at most. */
  readonly queue: number;
  /** Seconds that an answer may take. */
  readonly timeout: number;
}

/** What the GPU's thread is told. */
export type ToEngine =
  | { readonly kind: "listening"; readonly port: number }
  | { readonly kind: "failed"; readonly message: string }
  | {
    readonly kind: "admit";
    readonly id: number;
    readonly prompt: readonly number[];
    readonly options: SequenceOptions;
    /** The form of the answer. */
    readonly grammar?: Grammar;
    /** The tokens that the answer has to be, in place of a form. */
    readonly given?: readonly number[];
  }
  /** The tokens that there are, before the first answer of a form. */
  | { readonly kind: "vocabulary"; readonly vocabulary: Vocabulary }
  | { readonly kind: "evict"; readonly id: number }
  /** All answers are finished, after `finish`. */
  | { readonly kind: "finished" };

/** What a step made of a sequence's answer. */
export interface Piece {
  readonly id: number;
  readonly ids: readonly number[];
  /** One a token, where they were asked for. */
  readonly logprobs?: readonly TokenLogprobs[];
  /** Why the answer ended, where it has. */
  readonly finished?: "stop" | "length";
  /** The token that ended it, which is no part of it, where log-probabilities were asked for. */
  readonly ending?: { readonly id: number; readonly logprobs: TokenLogprobs };
  /** What ended it instead, for people. */
  readonly problem?: string;
}

/** What the thread that answers requests is told. */
export type ToServer =
  | {
    readonly kind: "serve";
    readonly settings: ServeSettings;
    /** Counts the messages to the GPU's thread, which looks for them where the count has changed `[1]` int32. */
    readonly posted: Int32Array;
  }
  /** The model is loaded. */
  | {
    readonly kind: "ready";
    /** What was allocated on the GPU, in bytes. */
    readonly gpuBytes: number;
  }
  | { readonly kind: "pieces"; readonly pieces: readonly Piece[] }
  /** Take nothing more, and tell when the running answers have ended. */
  | { readonly kind: "finish" };
