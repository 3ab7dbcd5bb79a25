/**
 * The configuration of a training run: every key with its type, range, default and meaning.
 *
 * @module
 */

import { z } from "zod";
import * as common from "../../cli/common_settings.ts";
import {
  aboveZero,
  atLeastZero,
  choice,
  describeKey,
  flag,
  type Key,
  share,
  text,
  texts,
  whole,
  worded,
} from "../../cli/settings.ts";
import { ALL_LINEAR } from "../../model/adapter/adapter_config.ts";
import {
  FUSED_MODULES,
  isLinearModule,
  LINEAR_MODULES,
} from "../../model/families/linear_modules.ts";
import { type DataFiles, dataKeys } from "./data_keys.ts";
import { evaluationKeys } from "./evaluation_keys.ts";
import { objectiveKeys } from "./objective_keys.ts";

/** What LoRA can adapt, by Hugging Face's names. */
const LORA_TARGETS = [
  ...Object.keys({ ...LINEAR_MODULES, ...FUSED_MODULES }).filter(isLinearModule),
  "lm_head",
  "embed_tokens",
] as const;
/** What can be trained whole beside it. */
const SAVED_MODULES = [
  ...LORA_TARGETS,
  "norm",
  "input_layernorm",
  "post_attention_layernorm",
] as const;

const differ = (names: readonly unknown[]) => new Set(names).size === names.length;
/** Numbers and ranges of numbers: `0,1,4-7`. */
const BLOCKS = /^\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*$/;
/** First and last number of each range of them; both are the same for a number alone. */
const rangesOf = (blocks: string) =>
  blocks.split(",").map((part) => {
    const [first, last = first] = part.split("-").map(Number);
    return { first, last };
  });

/** Which activations are kept; `every:k` keeps the input of every k-th block. */
export type Checkpointing = "none" | "block" | "sqrt" | "attention" | `every:${number}`;

/** The keys of `lora`. */
export const loraSchema = z.strictObject({
  rank: whole(1, 1024).default(16).describe("Rank r of the update B·A of a weight."),
  alpha: aboveZero().default(32).describe("The update is scaled by alpha / rank."),
  dropout: share().default(0.05).describe("Share of the adapter's inputs dropped while training."),
  targets: worded(
    z.union([
      z.literal(ALL_LINEAR),
      z.array(z.enum(LORA_TARGETS)).min(1).refine(differ),
      z.tuple([z.literal(ALL_LINEAR)]),
    ]),
    "names",
    `${ALL_LINEAR}, or a list of different names out of ${LORA_TARGETS.join(", ")}`,
  ).default(["q_proj", "v_proj"]).describe(
    "Layers that get an adapter; all-linear: all of every block.",
  ),
  layers: worded(
    z.union([
      z.array(z.int().min(0)).min(1).refine(differ),
      z.int().min(0),
      z.string().regex(BLOCKS).refine((text) =>
        rangesOf(text).every(({ first, last }) => first <= last)
      ),
    ]),
    "blocks",
    "numbers of blocks from 0 on, such as 0,1,4-7",
  ).optional().describe("Blocks whose layers get an adapter; without it, all."),
  modules_to_save: worded(
    z.array(z.enum(SAVED_MODULES)).refine(differ),
    "names",
    `a list of different names out of ${SAVED_MODULES.join(", ")}`,
  ).default([]).describe("Modules that are trained whole and stored with the adapter."),
  rslora: flag().default(false).describe("Scale the update by alpha / √rank (rsLoRA)."),
  dora: flag().default(false).describe("Train the lengths of a weight's rows apart (DoRA)."),
  plus_ratio: aboveZero().default(1).describe(
    "Learning rate of B over that of A (LoRA+; an adapter of the embedding then has 1e-6).",
  ),
  init: choice(["kaiming", "gaussian"]).default("kaiming").describe(
    "How A begins (B is zero): kaiming as in PEFT, or gaussian with deviation 1 / rank.",
  ),
});

/**
 * All keys; `lora` gets its final form in `train/config/config.ts`. `resume` says whether a resumed run must have a key as the run
 * it goes on with: `same` where the key decides the steps, or what the state is of; `allowed`, too, unless `allow_change`
 * names it; `length` where a schedule depends on it; `contents` of a path, whose name is free and what it names must be the
 * same; `free` where the steps stay what they are. `lora` speaks for its keys.
 */
export const trainSchema = z.strictObject({
  model: common.withDefault(common.model, "builtin").meta({ resume: "contents" }),
  tokenizer: common.tokenizer.meta({ resume: "contents" }),
  add_bos: common.add_bos.meta({ resume: "free" }), // the data's ids tell
  adapter: text("folder", "a PEFT adapter folder").optional().describe(
    "PEFT adapter folder to start from.",
  ).meta({ resume: "contents" }),
  layers: common.layers.meta({ resume: "same" }),
  ...dataKeys,
  eval_fraction: worded(z.number().min(0).max(0.5), "number", "a number from 0 to 0.5").default(0)
    .describe("Share of the samples held out, on which the loss is measured.").meta({
      resume: "same",
    }),
  ...evaluationKeys,
  output: text("folder", "a folder that does not exist yet").optional().describe(
    "Folder for the results, which must not exist (but see resume); without it, runs/<time>.",
  ).meta({ resume: "free" }),
  epochs: whole(1).default(1).describe("Passes over the samples.").meta({ resume: "length" }),
  max_steps: whole(1).optional().describe("Stop after so many optimizer steps.").meta({
    resume: "length",
  }),
  batch_size: whole(1).default(1).describe(
    "Rows of data in a micro-batch: samples, or pairs of a preference.",
  ).meta({ resume: "same" }),
  gradient_accumulation_steps: whole(1).default(8).describe(
    "Micro-batches whose gradients are added up for one optimizer step.",
  ).meta({ resume: "same" }),
  packing: flag().default(false).describe(
    "Run the micro-batches of a step together in long rows, for speed; the step stays the same.",
  ).meta({ resume: "allowed" }),
  share_prefixes: flag().default(true).describe(
    "With packing, compute what samples begin with alike, such as the template of a prompt, once a step.",
  ).meta({ resume: "allowed" }),
  ...objectiveKeys,
  loss_normalization: choice(["sample", "token"]).default("sample").describe(
    "Whether every micro-batch, or every supervised token, of a step weighs the same.",
  ).meta({ resume: "same" }),
  learning_rate: atLeastZero().default(1e-5).describe(
    "Learning rate, the highest of the schedule.",
  ).meta({ resume: "allowed" }),
  schedule: choice(["constant", "linear", "cosine"]).default("constant").describe(
    "How the learning rate falls over the run.",
  ).meta({ resume: "allowed" }),
  warmup_steps: whole(0).default(0).describe("Steps in which a schedule first rises from 0.").meta({
    resume: "allowed",
  }),
  optimizer: choice(["adamw", "sgd"]).default("adamw").describe(
    "AdamW with decoupled weight decay, or SGD without momentum.",
  ).meta({ resume: "same" }),
  betas: worded(
    z.array(z.number().min(0).lt(1)).length(2),
    "b1,b2",
    "two numbers of at least 0 and less than 1",
  ).default([0.9, 0.999]).describe("AdamW's decay of its first and second moments.").meta({
    resume: "allowed",
  }),
  eps: aboveZero().default(1e-8).describe("Added to the root of AdamW's second moment.").meta({
    resume: "allowed",
  }),
  weight_decay: atLeastZero().default(0).describe("Weight decay of trainable matrices.").meta({
    resume: "allowed",
  }),
  max_grad_norm: atLeastZero().default(0).describe("Gradients are clipped to this norm; 0 is off.")
    .meta({ resume: "allowed" }),
  precision: choice(["fp32", "mixed"]).default("mixed").describe(
    "fp32 throughout, or f16 storage and compute with f32 masters and loss scaling.",
  ).meta({ resume: "same" }),
  exact_products: common.exact_products.meta({ resume: "allowed" }),
  quantization: common.quantization.meta({ resume: "allowed" }),
  double_quantization: common.double_quantization.meta({ resume: "allowed" }),
  quantization_skip: common.quantization_skip.meta({ resume: "allowed" }),
  initial_loss_scale: aboveZero().default(65536).describe(
    "What mixed precision multiplies the loss by at first.",
  ).meta({ resume: "allowed" }),
  lora: z.union([loraSchema, z.literal(false)]).describe(
    "LoRA adapters on frozen weights; off trains all weights.",
  ).meta({ resume: "same" }),
  checkpointing: worded(
    z.string().regex(/^(none|block|sqrt|attention|every:[1-9]\d{0,3})$/),
    "mode",
    "none, block, sqrt, attention, or every:k with a whole number k of at least 1",
  ).default("none").describe(
    "Activations to compute again in the backward pass: none, block (every block), sqrt, every:k, " +
      "or attention (only its inside).",
  ).meta({ resume: "free" }),
  seed: whole(0, 2 ** 32 - 1).default(42).describe("Decides order, dropout and initial weights.")
    .meta({ resume: "same" }),
  shuffle: flag().default(true).describe("Visit the samples of every epoch in a new order.").meta({
    resume: "same",
  }),
  save_every: whole(0).default(0).describe("Save after every so many steps; 0 is only at the end.")
    .meta({ resume: "free" }),
  keep_states: whole(1, 1000).default(2).describe("States that stay: the last so many saved.").meta(
    {
      resume: "free",
    },
  ),
  resume: text("auto|folder", "auto, a run's folder, or that of one of its states").optional()
    .describe(
      "auto: go on with the run in output, or begin it; a run's folder: go on in it; a state's: a new run from there.",
    ).meta({ resume: "free" }),
  allow_change: texts("keys", "names of keys, with commas between them").default([]).describe(
    "Keys (or the contents of model, data ...) that may differ from those of the run that is gone on with.",
  ).meta({ resume: "free" }),
  verify_weights: flag().default(false).describe(
    "Tell whether the model is the one that the run began with by all of its bytes.",
  ).meta({ resume: "free" }),
  profile: flag().default(false).describe("Print the GPU's time by program (slower).").meta({
    resume: "free",
  }),
  print_wgsl: flag().default(false).describe("Print every program's WGSL, for debugging.").meta({
    resume: "free",
  }),
  gpu: common.gpu.meta({ resume: "free" }),
});

/** LoRA's settings. */
export type LoraSettings =
  & Omit<
    z.output<typeof loraSchema>,
    "targets" | "layers" | "modules_to_save"
  >
  & {
    /** `all-linear`, names, or what else an adapter to start from says. */
    targets: string | string[];
    layers?: number[];
    modules_to_save: string[];
    /** PEFT's configuration of the adapter to start from, which the keys above then agree with. */
    adapter?: Record<string, unknown>;
  };

/** The keys of `lora` as they are used: lists and ranges of blocks as numbers. */
export function loraSettings(given: z.output<typeof loraSchema>): LoraSettings {
  const { targets, layers, ...rest } = given;
  const settings: LoraSettings = {
    ...rest,
    targets: targets[0] === ALL_LINEAR
      ? ALL_LINEAR
      : typeof targets === "string"
      ? targets
      : [...targets],
  };
  if (layers !== undefined) settings.layers = blockNumbers(layers);
  return settings;
}

function blockNumbers(layers: string | number | readonly number[]): number[] {
  if (typeof layers !== "string") return typeof layers === "number" ? [layers] : [...layers];
  const numbers = rangesOf(layers).flatMap(({ first, last }) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i)
  );
  return [...new Set(numbers)];
}

/** A checked configuration with every default filled in. */
export type TrainConfig =
  & Omit<z.output<typeof trainSchema>, "data" | "checkpointing" | "betas" | "lora">
  & {
    data: DataFiles;
    checkpointing: Checkpointing;
    betas: [number, number];
    /** `false` trains all weights. */
    lora: LoraSettings | false;
  };

/** Which folder a run works in, and what it goes on from: the keys of its configuration. */
export interface RunFolderKeys {
  /** The folder. Default: a new one by the time. */
  output?: string;
  /** `auto`, the folder of a run, or that of a state. */
  resume?: string;
}

/** The switch of LoRA, whose own keys are those of a group. */
export const LORA_SWITCH: Key = {
  name: "lora",
  kind: "group",
  schema: trainSchema.shape.lora,
  optional: false,
  default: "on",
  description: trainSchema.shape.lora.description ?? "",
  value: "on|off",
  expected: "on, off, or a mapping with rank, alpha, dropout, targets and others",
};

/** Every key, those of `lora` right after it. */
export const KEYS: readonly Key[] = Object.entries(trainSchema.shape).flatMap(([name, schema]) =>
  name === "lora"
    ? [
      LORA_SWITCH,
      ...Object.entries(loraSchema.shape).map(([inner, schema]) =>
        describeKey(`lora.${inner}`, schema)
      ),
    ]
    : [describeKey(name, schema)]
);

/** The configuration file's JSON Schema, for editors. */
export function jsonSchema(): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(trainSchema, {
    io: "input",
    override: ({ jsonSchema }) => {
      delete jsonSchema.resume; // the trainer's own, of no use to an editor
    },
  });
  const properties = { ...schema.properties } as Record<string, Record<string, unknown>>;
  properties.lora = {
    description: properties.lora.description,
    anyOf: [
      ...(properties.lora.anyOf as unknown[]),
      { enum: ["on", "off", true] },
    ],
  };
  const required = schema.required?.filter((key) => key !== "lora");
  return {
    $schema,
    title: "Lorikeet training configuration",
    ...schema,
    properties,
    required: required?.length ? required : undefined,
  };
}
