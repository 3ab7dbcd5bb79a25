/**
 * Which of a model's matrices are held in fewer bits than they are computed in, and how: the seven linear layers of
 * every block, as in "QLoRA: Efficient Finetuning of Quantized LLMs" (https://arxiv.org/abs/2305.14314).
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { WeightKind } from "../../kernels/ops/weights/kind.ts";
import { weightKind } from "../../kernels/ops/weights/kinds.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import { archSpec, type ModelConfig } from "../families/config.ts";
import { specShapes } from "../families/spec.ts";
import type { WeightSource } from "../formats/weights.ts";
import { isLinearModule } from "../families/linear_modules.ts";
import type { FrozenKinds } from "./parameters.ts";

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

/** A linear layer of a block by the name of its weight; undefined for others. */
function linearModule(weight: string): string | undefined {
  const [, module, name] = /^(model\.layers\.\d+\.\w+\.(\w+))\.weight$/.exec(weight) ?? [];
  return isLinearModule(name) ? module : undefined;
}

/** Whether a module is named, in full or by the end of its name. */
function isNamed(module: string, names: readonly string[]): boolean {
  return names.some((name) => module === name || module.endsWith(`.${name}`));
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
  if (kind === undefined) return stored;
  const kinds = new Map<string, WeightKind>(), modules: string[] = [];
  for (const [weight, shape] of specShapes(archSpec(config))) {
    const module = linearModule(weight);
    if (module === undefined) continue;
    modules.push(module);
    if (isNamed(module, skip)) continue;
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
    if (modules.some((module) => isNamed(module, [name]))) continue;
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
