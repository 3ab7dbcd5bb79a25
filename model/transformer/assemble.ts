/**
 * Which of a model's parameters share a buffer, and which make up a block.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { DoraModule } from "../../kernels/ops/dora/dora.ts";
import type { Memory, TensorSpec } from "../../kernels/gpu/memory.ts";
import { roundUp } from "../../kernels/gpu/tensor.ts";
import type { ActivationSizes } from "./activations.ts";
import { type AdapterPlan, OUTPUT } from "../adapter/plan.ts";
import { loraNames, loraShapes } from "../adapter/tensors.ts";
import type { Block } from "./block.ts";
import { archSpec, type ModelConfig } from "../families/config.ts";
import { type ArchSpec, type NormPlace, specShapes } from "../families/spec.ts";
import {
  isLinearModule,
  type LinearLayers,
  type LinearModule,
  type PackedName,
  submoduleOf,
} from "../families/linear_modules.ts";
import {
  type Dora,
  isPlain,
  type Linear,
  loraWidth,
  type PackedLinear,
  packLinears,
  trainsPacked,
} from "./packed_linear.ts";
import { type Parameter, parameterOf, type ParameterSpec, storedShape } from "./parameters.ts";

/** Weights that share a buffer: each block's, and each of the rest. */
export function weightGroups(
  spec: ArchSpec,
  isTrained: (name: string) => boolean,
): Map<string, ParameterSpec[]> {
  const groups = new Map<string, ParameterSpec[]>();
  for (const [name, shape] of specShapes(spec)) {
    const label = /^model\.layers\.\d+/.exec(name)?.[0] ?? name;
    const specs = groups.get(label) ?? [];
    groups.set(label, specs);
    specs.push({ name, shape, trained: isTrained(name) });
  }
  // The matrices of a packed layer lie side by side, with no bias in between.
  for (const specs of groups.values()) {
    specs.sort((a, b) => Number(/bias$/.test(a.name)) - Number(/bias$/.test(b.name)));
  }
  return groups;
}

/** The linear layers of a block, in their order. */
const linearsOf = ({ qkv, o, gateUp, down }: LinearLayers): LinearModule[] => [
  ...qkv,
  ...o,
  ...gateUp,
  ...down,
];

/** The modules whose inputs and launches a module shares, itself included. */
function packedWith(linears: LinearLayers, module: string): string[] {
  const [, block, name] = /^(model\.layers\.\d+\.)\w+\.(\w+)$/.exec(module) ?? [];
  if (!isLinearModule(name)) return [module];
  const groups = Object.values<readonly LinearModule[]>(linears);
  const group = groups.find((modules) => modules.includes(name)) ?? [name];
  return group.map((module) => `${block}${submoduleOf(module)}.${module}`);
}

/**
 * The tensors of an adapter, layers in order. Modules that share launches are stored at the highest of their ranks.
 */
export function loraSpecs(
  config: ModelConfig,
  plan: AdapterPlan,
  trained: boolean,
): ParameterSpec[] {
  const stored = new Map<string, number[]>(), { linears } = archSpec(config);
  const shapes = loraShapes(config, plan);
  const shapeOf = (name: string) => present(shapes.get(name), `tensor ${name}`);
  for (const module of plan.modules.keys()) {
    const ranks = packedWith(linears, module).map((name) => plan.modules.get(name)?.rank ?? 0);
    const rank = roundUp(Math.max(...ranks), 4), { a, b } = loraNames(module);
    stored.set(a, [rank, storedShape(shapeOf(a))[1]]);
    stored.set(b, [storedShape(shapeOf(b))[0], rank]);
  }
  return Array.from(
    shapes,
    ([name, shape]) => ({ name, shape, trained, stored: stored.get(name) ?? storedShape(shape) }),
  );
}

/** The parameters that a model's layers are made of, by name. */
export interface Parts {
  spec: ArchSpec;
  weights: ReadonlyMap<string, Parameter>;
  adapters: ReadonlyMap<string, Parameter>;
  plan?: AdapterPlan;
  /** DoRA's lengths and factors, by module. */
  dora: ReadonlyMap<string, Dora>;
}

/** DoRA's lengths and factors, side by side in memory. */
export function allocateDora(
  memory: Memory,
  adapters: ReadonlyMap<string, Parameter>,
  plan: AdapterPlan | undefined,
): Map<string, Dora> {
  const dora = new Map<string, Dora>();
  if (plan === undefined || !plan.config.use_dora) return dora;
  const modules = [...plan.modules.keys()];
  const magnitudes = modules.map((module) => parameterOf(adapters, loraNames(module).magnitude));
  const specs = magnitudes.flatMap(({ value: { shape } }): TensorSpec[] => [
    { name: "dora_norm", dtype: "f32", shape },
    { name: "dora_factor", dtype: "f32", shape },
  ]);
  const tensors = memory.arena("parameter", "DoRA", specs);
  modules.forEach((module, i) => {
    const [norm, factor] = tensors.slice(2 * i);
    dora.set(module, { magnitude: magnitudes[i], norm, factor });
  });
  return dora;
}

/** The layer of a module. */
function linearOf(
  { weights, adapters, plan, dora }: Parts,
  name: string,
  subsequence: number,
): Linear {
  const weight = parameterOf(weights, `${name}.weight`), bias = weights.get(`${name}.bias`);
  const module = plan?.modules.get(name);
  if (module === undefined) return { weight, bias };
  const names = loraNames(name);
  return {
    weight,
    bias,
    lora: {
      a: parameterOf(adapters, names.a),
      b: parameterOf(adapters, names.b),
      scale: module.scale,
      subsequence,
      bias: adapters.get(names.bias),
      dora: dora.get(name),
    },
  };
}

/** Block `layer`. */
export function makeBlock(
  layer: number,
  parts: Parts,
  { rope, keyRanges }: Pick<Block, "rope" | "keyRanges">,
): Block {
  const { spec: { norms, qkNorm, layers, linears }, weights } = parts;
  const modules = linearsOf(linears);
  const normOf = (name: string) => parameterOf(weights, `model.layers.${layer}.${name}.weight`);
  const pack = (name: PackedName) =>
    packLinears(linears[name].map((module) => {
      const name = `model.layers.${layer}.${submoduleOf(module)}.${module}`;
      return linearOf(parts, name, layer * modules.length + modules.indexOf(module));
    }));
  const normAt = (place: NormPlace): [NormPlace, Parameter][] => {
    const name = norms[place];
    return name === undefined ? [] : [[place, normOf(name)]];
  };
  return {
    norms: Object.fromEntries(
      (["preAttention", "postAttention", "preMlp", "postMlp"] as const).flatMap(normAt),
    ),
    qkNorm: qkNorm && { q: normOf(qkNorm.q), k: normOf(qkNorm.k) },
    qkv: pack("qkv"),
    o: pack("o"),
    gateUp: pack("gateUp"),
    down: pack("down"),
    rope,
    keyRanges,
    scale: layers[layer].scale,
    softcap: layers[layer].softcap,
  };
}

/** The output projection: the embedding's table where the two are tied. */
export function makeOutput(parts: Parts, embedding: Parameter): PackedLinear {
  const { spec: { layers, linears }, weights } = parts;
  const tied = weights.has(`${OUTPUT}.weight`) ? [] : [[`${OUTPUT}.weight`, embedding] as const];
  const subsequence = layers.length * linearsOf(linears).length;
  return packLinears([
    linearOf({ ...parts, weights: new Map([...weights, ...tied]) }, OUTPUT, subsequence),
  ]);
}

/** The packed layers of a block. */
const packedOf = ({ qkv, o, gateUp, down }: Block): Record<PackedName, PackedLinear> => ({
  qkv,
  o,
  gateUp,
  down,
});

/** What the packed layers of all blocks need of the buffers. */
export function packedSizes(
  spec: ArchSpec,
  blocks: readonly Block[],
): Pick<ActivationSizes, "loraWidths" | "projected" | "branched" | "contiguous" | "dora"> {
  const packed = blocks.map(packedOf), { norms, residual_multiplier: factor } = spec;
  const branched = factor !== 1 ||
    [norms.postAttention, norms.postMlp].some((n) => n !== undefined);
  const width = (name: PackedName) => Math.max(0, ...packed.map((block) => loraWidth(block[name])));
  const withDora = (size: (packed: PackedLinear) => number) =>
    Math.max(0, ...packed.flatMap(Object.values<PackedLinear>).map((p) => p.dora ? size(p) : 0));
  return {
    loraWidths: { qkv: width("qkv"), o: width("o"), gateUp: width("gateUp"), down: width("down") },
    projected: branched || !packed.every(({ o, down }) => [o, down].every(isPlain)),
    branched,
    contiguous: packed.every(({ qkv, gateUp }) =>
      [qkv, gateUp].every(({ weight, dora }) => weight !== undefined && !dora)
    ),
    dora: {
      input: withDora(({ layers: [{ weight }] }) => weight.operand.shape[1]),
      output: withDora(({ width }) => width),
    },
  };
}

/** Whether anything of the block is trained. */
export function trainsBlock(block: Block): boolean {
  const { q, k } = block.qkNorm ?? {};
  const norms = [...Object.values(block.norms), q, k].filter((norm) => norm !== undefined);
  return norms.some(({ trained }) => trained !== undefined) ||
    Object.values(packedOf(block)).some(trainsPacked);
}

/** The modules of blocks and of the output projection that have DoRA. */
export function doraModules(blocks: readonly Block[], output: PackedLinear): DoraModule[] {
  const packed = blocks.flatMap((block) => Object.values<PackedLinear>(packedOf(block)));
  return [...packed, output].flatMap(({ layers }) =>
    layers.flatMap(({ weight, lora }) => {
      if (lora?.dora === undefined) return [];
      const { a, b, scale, dora: { magnitude, norm, factor } } = lora;
      return [{
        weight: weight.operand,
        a: a.value,
        b: b.value,
        scale,
        magnitude: magnitude.value,
        norm,
        factor,
      }];
    })
  );
}
