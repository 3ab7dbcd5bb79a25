/**
 * The activations of gated MLPs, by the names that Hugging Face's `config.json` has for them.
 *
 * @module
 */
import type { ActivationWgsl } from "./activation.ts";
import { GELU_TANH } from "./gelu.ts";
import { SILU } from "./silu.ts";

/** An activation's WGSL by its name. */
export const ACTIVATIONS = {
  silu: SILU,
  gelu_pytorch_tanh: GELU_TANH,
} as const satisfies Record<string, ActivationWgsl>;

/** An activation's name. */
export type Activation = keyof typeof ACTIVATIONS;
