/**
 * Which of a model's matrices are held in fewer bits than they are computed in, and how: the seven linear layers of
 * every block, as in "QLoRA: Efficient Finetuning of Quantized LLMs" (https://arxiv.org/abs/2305.14314).
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { bytesOf } from "../../kernels/gpu/tensor.ts";
import type { WeightKind } from "../../kernels/ops/weights/kind.ts";
import { weightKind } from "../../kernels/ops/weights/kinds.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import { nameMatch } from "../adapter/plan.ts";
import { archSpec, type ModelConfig } from "../families/config.ts";
import { specShapes } from "../families/spec.ts";
import { quantizedType, type WeightSource } from "../formats/weights.ts";
import { isLinearModule } from "../families/linear_modules.ts";
import type { FrozenKinds, Parameter } from "./parameters.ts";

/** What `quantization` may be. */
export const QUANTIZATIONS = ["none", "int8", "nf4"] as const;

/** What the user sets of the base model's quantisation. */
export interface QuantizationSettings {
  quantization: typeof QUANTIZATIONS[number];
  /** Whether nf4's numbers of blocks are quantised, too. */
  double_quantization: boolean;
  /** Modules that stay as they are: names, or ends of names. */
  quantization_skip: readonly string[];
}

/** What is said where `quantization_skip` is given without a quantisation. */
export const NOTHING_TO_SKIP =
  "quantization_skip is given but quantization is none; expected quantization int8 or nf4";

/** A linear layer of a block by the name of its weight; undefined for others. */
function linearModule(weight: string): string | undefined {
  const [, module, name] = /^(model\.layers\.\d+\.\w+\.(\w+))\.weight$/.exec(weight) ?? [];
  return isLinearModule(name) ? module : undefined;
}

function kindOf(
  { quantization, double_quantization }: QuantizationSettings,
): WeightKind | undefined {
  if (quantization === "none") return undefined;
  return weightKind(quantization === "nf4" && !double_quantization ? "nf4_f32" : quantization);
}

/**
 * The kinds of a model's frozen matrices: those that its files have them in or, where `quantization` says so, another.
 *
 * @throws {UserError} where `quantization_skip` names nothing, or a matrix can't be held in the kind.
 */
export function frozenKinds(
  config: ModelConfig,
  settings: QuantizationSettings,
  weights?: WeightSource,
): FrozenKinds {
  const kind = kindOf(settings), { quantization_skip: skip } = settings;
  const stored = (name: string) => {
    const quantized = linearModule(name) === undefined ? undefined : weights?.quantized(name);
    return quantized && weightKind(quantized.kind);
  };
  if (kind === undefined) {
    if (skip.length === 0) return stored;
    throw new UserError(NOTHING_TO_SKIP);
  }
  const kinds = new Map<string, WeightKind>(), modules: string[] = [], isSkipped = nameMatch(skip);
  for (const [weight, shape] of specShapes(archSpec(config))) {
    const module = linearModule(weight);
    if (module === undefined) continue;
    modules.push(module);
    if (isSkipped(module)) continue;
    const columns = shape[1];
    if (columns % kind.columnUnit !== 0) {
      throw new UserError(
        `quantization ${settings.quantization}: ${weight} has rows of ${columns} values, expected a multiple of ` +
          `${kind.columnUnit}; name ${module.split(".").at(-1)} in quantization_skip, or take nf4`,
      );
    }
    kinds.set(weight, kind);
  }
  for (const name of skip) {
    if (modules.some(nameMatch([name]))) continue;
    const names = [...new Set(modules.map((module) => module.split(".").at(-1) ?? module))];
    throw new UserError(
      `quantization_skip: "${name}" is no quantised module, expected ${
        names.join(", ")
      }, or such a name in full ` +
        `(${modules[0]})${didYouMean(name, names)}`,
    );
  }
  return (name) => kinds.get(name) ?? stored(name);
}

/**
 * One line about linear layers that are quantised as they are loaded; undefined where none are.
 *
 * @param name What the model is called.
 * @param weights Where they come from; absent of random ones.
 */
export function describeQuantization(
  name: string,
  parameters: readonly Parameter[],
  weights?: WeightSource,
): string | undefined {
  const quantized = parameters.filter(({ name, operand: { kind } }) =>
    kind.element === undefined && weights?.quantized(name)?.kind !== kind.name
  );
  const dense = parameters.flatMap(({ operand: { kind } }) => kind.element ?? [])[0];
  if (quantized.length === 0 || dense === undefined) return undefined;
  const before =
    quantized.filter(({ name }) =>
      weights !== undefined && quantizedType(weights.info(name)) !== undefined
    ).length;
  const [{ operand: { kind } }] = quantized;
  const sum = (bytes: (parameter: Parameter) => number) =>
    megabytes(quantized.reduce((sum, parameter) => sum + bytes(parameter), 0)).toFixed(1);
  const held = sum(({ operand }) => operand.bytes);
  const otherwise = sum(({ operand }) => operand.values * bytesOf(dense));
  const becomes = kind.name === "nf4_f32" ? "nf4 with scales in f32" : kind.name;
  return `Model "${name}": ${quantized.length} linear layers are quantised to ${becomes}, ` +
    `${held} MB instead of ${otherwise} in ${dense}.` +
    (before === 0 ? "" : ` ${before} were quantised before: the errors of both add up.`);
}
