/**
 * Reads the golden files of tests/fixtures/, which PyTorch made; that folder's README.md says what
 * each holds and to what tolerance. The safetensors reader is this file's own, so that the
 * expected values don't depend on the code under test.
 */
import { fileURLToPath } from "node:url";
import type { FrequencyOptions } from "../kernels/ops/rope/frequencies.ts";
import { type ModelConfig, parseConfig } from "../model/families/config.ts";
import type { TokenizedSample } from "../model/text/prompt.ts";
import { targetsAfter } from "../model/text/targets.ts";

/** A float32 tensor as a fixture file holds it, row-major. */
export interface FixtureTensor {
  shape: number[];
  data: Float32Array;
}

export type FixtureModel = "llama" | "llama_tied" | "family" | "family_bias";
export type FixtureAdapter = "adapter_qv" | "adapter_all" | "family_adapter";
export type LossNormalization = "sample" | "token";

/** adapter_config.json, as far as tests need it. */
export interface FixtureAdapterConfig {
  r: number;
  lora_alpha: number;
  lora_dropout: number;
  target_modules: string[];
}

/** Which model, with which adapter on top (null: none), a case is about. */
export interface FixtureSubject {
  model: FixtureModel;
  adapter: FixtureAdapter | null;
}

/** logits.json: `logits[i]` are the `vocab_size` logits at row `positions[i]` of `ids`. */
export interface LogitsCase extends FixtureSubject {
  sample: number;
  ids: number[];
  positions: number[];
  logits: number[][];
}

/** gradients.json: one micro-batch (which is a whole window) and its gradients' file. */
export interface GradientsCase extends FixtureSubject {
  name: string;
  train: "lora" | "full";
  loss_normalization: LossNormalization;
  /** Indices into samples.json, in the row's order. */
  samples: number[];
  loss: number;
  /** Micro-batch losses when the same samples are accumulated one by one; same gradient. */
  losses_one_by_one: number[];
  grad_norm: number;
  /** For `readTensors`. */
  file: string;
  /** Largest per-tensor relative L2 difference of the float32 gradients from float64's. */
  noise: number;
}

/** One optimizer step of a trajectory. */
export interface TrajectoryStep {
  learning_rate: number;
  /** Micro-batch losses, then the window's loss. */
  losses: number[];
  loss: number;
  /** L2 norm of all gradients of the window's loss, before clipping. */
  grad_norm: number;
  /** Ids in the window, masked ones included. */
  tokens: number;
}

/** trajectories.json: a training run, its settings, and what it must report. */
export interface TrajectoryCase extends FixtureSubject {
  name: string;
  train: "lora" | "full";
  batch_size: number;
  gradient_accumulation_steps: number;
  epochs: number;
  loss_normalization: LossNormalization;
  optimizer: "adamw" | "sgd";
  learning_rate: number;
  /** On matrices only. */
  weight_decay: number;
  /** 0 is off. */
  max_grad_norm: number;
  schedule: "constant" | "linear" | "cosine";
  warmup_steps: number;
  /** windows[step][microBatch] lists indices into samples.json. */
  windows: number[][][];
  steps: TrajectoryStep[];
  /** Of every trained tensor after the last step; `change_l2` is ‖final - start‖. */
  final: Record<string, { sum: number; l2: number; change_l2: number }>;
  /** Largest relative differences of float32's run from float64's. */
  noise: { loss: number; grad_norm: number; change_l2: number };
}

/** optimizers.json: `weights[step]` after using `gradients[step]` at `learning_rates[step]`. */
export interface OptimizerCase {
  optimizer: "adamw" | "sgd";
  betas: [number, number];
  eps: number;
  weight_decay: number;
  max_grad_norm: number;
  start: number[];
  learning_rates: number[];
  gradients: number[][];
  /** Before clipping. */
  grad_norms: number[];
  weights: number[][];
}

/** preferences.json: steps of an objective, as TRL does them on `llama` with `adapter_qv` from micro-batches of its rows in order. */
export interface PreferenceFixture {
  eos: number;
  learningRate: number;
  /** Micro-batches of a step. */
  accumulation: number;
  /** Ids without their end. */
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
  /** Rows for kto. */
  unpaired: { prompt: number[]; completion: number[]; label: boolean }[];
  cases: PreferenceCase[];
  /** Rows of data, and the ids that TRL makes of them with `tiny_tokenizer.model` and this chat template. */
  template: string;
  encoded: { rows: Record<string, unknown>[]; ids: Record<string, number[]>[] }[];
}

export interface PreferenceCase {
  name: string;
  objective: "dpo" | "orpo" | "kto" | "simpo";
  /** Keys of the configuration that are not the defaults. */
  keys: Record<string, number | boolean>;
  /** Rows of a micro-batch. */
  batchSize: number;
  maxLength: number;
  /** TRL's names of metrics. */
  steps: { losses: number[]; gradNorm: number; metrics: Record<string, number> }[];
}

/** greedy.json: the 24 ids that follow `prompt`, the end token not being a stop. */
export interface GreedyCase extends FixtureSubject {
  prompt: number[];
  ids: number[];
  /** Smallest lead, over the steps, of the chosen logit over the next best. */
  smallest_margin: number;
}

/** Ids of which those before `promptLength` are no targets. */
export interface FixtureSample {
  ids: number[];
  promptLength: number;
}

/** Samples of a file as the model sees them. */
export function tokenizedSamples(samples: readonly FixtureSample[]): TokenizedSample[] {
  return samples.map(({ ids, promptLength }) => ({
    ids: Uint32Array.from(ids),
    targets: targetsAfter(promptLength, ids),
    truncated: false,
  }));
}

/** score.json: `nll[sample][i]` is of the target at position promptLength + i. */
export interface ScoreCase extends FixtureSubject {
  tokens: number;
  nll_per_token: number;
  perplexity: number;
  nll: number[][];
}

/** family.json: models whose config.json says something else than the folder's in `changes`. */
export interface FamilyFixture {
  logits: {
    name: string;
    model: FixtureModel;
    changes: Record<string, unknown>;
    ids: number[];
    positions: number[];
    logits: number[][];
  }[];
  /** One pass over all samples, every supervised token weighing the same; `lora`: family_adapter. */
  gradients: {
    /** A name of `logits`. */
    variant: string;
    train: "lora" | "full";
    samples: FixtureSample[];
    loss: number;
    file: string;
  }[];
}

/**
 * peft.json: an adapter in the folder peft/NAME; its gradients.safetensors are of `loss`, to which every supervised
 * token adds the same.
 */
export interface PeftCase {
  name: string;
  model: FixtureModel;
  samples: FixtureSample[];
  /** Rows of the first sample, and their logits. */
  positions: number[];
  logits: number[][];
  loss: number;
  /** Three steps of AdamW over all samples, and the same with LoRA+. */
  training: {
    learning_rate: number;
    steps: { loss: number; grad_norm: number }[];
    plus_ratio: number;
    /** What LoRA+ multiplies each tensor's rate by; null where it has a rate of its own, 1e-6. */
    plus_rates: Record<string, number | null>;
    plus_steps: { loss: number; grad_norm: number }[];
  };
  /** The same with dropout: what each layer keeps, "1" or "0", of `[rows of all samples, in]`. */
  dropped?: { p: number; loss: number; kept: Record<string, string> };
}

/** One optimizer step. */
export interface FamilyStep {
  losses: number[];
  grad_norm: number;
}

/** A tiny model of families.json. */
export interface FamilyCase {
  name: string;
  /** Its `config.json`. */
  config: Record<string, unknown>;
  /** Of its tensors, and of its adapter's. */
  shapes: Record<string, number[]>;
  adapter: Record<string, number[]>;
  prompt: number[];
  /** By row of the prompt. */
  logits: Record<string, number[]>;
  adapted_logits: Record<string, number[]>;
  greedy: number[];
  /** Every token but the first is a target; each is a micro-batch. */
  samples: number[][];
  full: FamilyStep[];
  lora: FamilyStep[];
}

/** families.json: tiny models with uncommon options. */
export interface FamiliesFixture {
  learning_rate: number;
  gradient_accumulation_steps: number;
  /** What every adapter's `adapter_config.json` says. */
  adapter: Record<string, unknown>;
  cases: FamilyCase[];
}

/** gemma2/cases.json: a tiny Gemma 2 and an adapter of it, as transformers' configuration says it. */
export interface Gemma2Fixture {
  config: {
    vocab_size: number;
    hidden_size: number;
    intermediate_size: number;
    num_hidden_layers: number;
    num_attention_heads: number;
    num_key_value_heads: number;
    head_dim: number;
    max_position_embeddings: number;
    rms_norm_eps: number;
    query_pre_attn_scalar: number;
    sliding_window: number;
    layer_types: string[];
    attn_logit_softcapping: number;
    final_logit_softcapping: number;
  };
  adapter: { rank: number; alpha: number; targets: string[] };
  samples: FixtureSample[];
  /** Of every row of the first sample, without the adapter and with it. */
  logits: number[][];
  adapted_logits: number[][];
  /** With the adapter, every supervised token weighing the same. */
  loss: number;
}

/**
 * quantized/cases.json: steps of AdamW from the adapter in the model's folder `adapter`, on a base that is quantised;
 * each over the next two samples, one a micro-batch.
 */
export interface QuantizedFixture {
  learning_rate: number;
  samples: FixtureSample[];
  cases: {
    /** Folder in quantized/. */
    model: string;
    quantization: "nf4" | "int8";
    double_quantization: boolean;
    steps: { losses: number[]; grad_norm: number }[];
    /** The first loss on the base as the file has it. */
    unquantized_loss: number;
  }[];
}

/** rope.json: frequencies in radians a position. */
export interface RopeCase extends Omit<FrequencyOptions, "dims"> {
  headDim: number;
  frequencies: number[];
}

/** A message of chat_masks/cases.json; some have more fields. */
export interface ChatMasksMessage {
  role: string;
  content: string;
  reasoning_content?: string;
}

/** chat_masks/cases.json: rows of data by kind, and what is learnt of them by template and kind. */
export interface ChatMasksFixture {
  conversations: Record<string, { messages: ChatMasksMessage[] }[]>;
  cases: Record<string, {
    template: string;
    results: Record<string, [length: number, checksum: number, targets: [number, number][]][]>;
  }>;
}

/** The JSON files and what they hold. */
export interface FixtureFiles {
  "samples.json": FixtureSample[];
  "logits.json": LogitsCase[];
  "gradients.json": GradientsCase[];
  "trajectories.json": TrajectoryCase[];
  "preferences.json": PreferenceFixture;
  "optimizers.json": OptimizerCase[];
  "greedy.json": GreedyCase[];
  "score.json": ScoreCase[];
  "family.json": FamilyFixture;
  "gemma2/cases.json": Gemma2Fixture;
  "families.json": FamiliesFixture;
  "rope.json": RopeCase[];
  "peft.json": PeftCase[];
  "quantized/cases.json": QuantizedFixture;
  "chat_masks/cases.json": ChatMasksFixture;
  /** What PEFT makes of configurations: rank and scale by module, and whole weights; null where it refuses. */
  "adapter_rules.json": {
    config: Record<string, unknown>;
    expected: { modules: Record<string, [number, number]>; saved: string[] } | null;
  }[];
  /** Three steps from each adapter of the shared archive of real files. */
  "real_steps.json": Record<string, { losses: number[]; grad_norm: number }[]>;
}

/** The path of a fixture: a model's or an adapter's folder, or a file. */
export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url));
}

/** One tensor in a safetensors header; offsets are bytes from the header's end. */
interface SafetensorsEntry {
  shape: number[];
  data_offsets: [number, number];
}

/** A golden JSON file, parsed. */
export function readFixture<Name extends keyof FixtureFiles>(name: Name): FixtureFiles[Name] {
  return JSON.parse(Deno.readTextFileSync(fixturePath(name)));
}

/** Every tensor of one of the fixtures' safetensors files (all are F32), in file order. */
export function readTensors(name: string): Map<string, FixtureTensor> {
  const bytes = Deno.readFileSync(fixturePath(name));
  const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const data = 8 + headerBytes;
  const { __metadata__: _, ...entries } = JSON.parse(
    new TextDecoder().decode(bytes.subarray(8, data)),
  );
  const tensors = new Map<string, FixtureTensor>();
  for (const [key, entry] of Object.entries(entries)) {
    const { shape, data_offsets: [start, end] } = entry as SafetensorsEntry;
    // Sliced, because the data need not begin at a multiple of four in the file.
    tensors.set(key, {
      shape,
      data: new Float32Array(bytes.slice(data + start, data + end).buffer),
    });
  }
  return tensors;
}

/** A fixture model's config.json and weights. Its folder is `fixturePath(name)`. */
export function readModel(
  name: FixtureModel,
): { config: ModelConfig; weights: Map<string, FixtureTensor> } {
  const file = fixturePath(`${name}/config.json`);
  const config = parseConfig(JSON.parse(Deno.readTextFileSync(file)), file);
  return { config, weights: readTensors(`${name}/model.safetensors`) };
}

/** A fixture adapter's adapter_config.json and tensors. Its folder is `fixturePath(name)`. */
export function readAdapter(
  name: FixtureAdapter,
): { config: FixtureAdapterConfig; weights: Map<string, FixtureTensor> } {
  const config = JSON.parse(Deno.readTextFileSync(fixturePath(`${name}/adapter_config.json`)));
  return { config, weights: readTensors(`${name}/adapter_model.safetensors`) };
}
