/**
 * Which tiles matrix products take least time with on the GPU at hand: every product that a model asks for,
 * with every geometry that might be the best.
 *
 * @module
 */
import { present } from "../kernels/present.ts";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { matmul, matmulSplitK } from "../kernels/ops/matmul/matmul.ts";
import { geometries, type MatmulGeometry } from "../kernels/ops/matmul/tiled_geometry.ts";
import { type AskedProduct, productClass, tilesOf } from "../kernels/ops/matmul/tuned.ts";
import { Memory } from "../kernels/gpu/memory.ts";
import { sumSplitK } from "../kernels/ops/split_k/split_k.ts";
import type { Tensor } from "../kernels/gpu/tensor.ts";
import { weightKind } from "../kernels/ops/weights/kinds.ts";
import { encodeWeight, makeOperand } from "../kernels/ops/weights/operand.ts";
import { compareSeconds } from "../kernels/measure/timing.ts";
import { makeBatch } from "../model/transformer/batch.ts";
import type { ModelConfig } from "../model/families/config.ts";
import { Llama } from "../model/transformer/llama.ts";
import { numericsOf, scoreMode } from "../model/transformer/modes.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { PassPlanner } from "../train/planner.ts";
import { Trainer } from "../train/trainer.ts";
import { MOST_ERROR, Samples, Tensors, valuesOf } from "./kernel_case.ts";
import { randomIds, randomRow } from "./samples.ts";
import { targetsAfter } from "../model/text/targets.ts";

/** Geometries are measured that the model in tiled_geometry.ts thinks at most so many times slower than its best. */
const DOUBT = 1.25;
/** Of those, so many at most. */
const MOST_CANDIDATES = 16;
/** Equal copies of B are read in turn until they are this large: no cache holds the next one. */
const COLD_BYTES = 128e6;

/** One product with one geometry. */
export interface Timed {
  geometry: MatmulGeometry;
  seconds: number;
}

/** A product and what was measured of it. */
export interface Tuned {
  /** See {@linkcode productClass}. */
  name: string;
  product: AskedProduct;
  /** Seconds with the geometry that is predicted to be best, and with the one that is. */
  predicted: Timed;
  best: Timed;
  all: Timed[];
}

/**
 * Every product on FMA units of a training step and of generation with `model`, for passes of these numbers
 * of tokens: one of each class, that with the most rows.
 */
export async function askedProducts(
  gpu: Gpu,
  model: ModelConfig,
  config: TrainConfig,
  tokens: readonly number[],
): Promise<AskedProduct[]> {
  const asked = new Map<string, AskedProduct>();
  tilesOf(gpu).listener = (product) => {
    const name = productClass(product);
    if (name === undefined) return;
    const known = asked.get(name);
    if (known === undefined || known.m * known.k < product.m * product.k) asked.set(name, product);
  };
  const windows = tokens.map((count) => [randomRow(count, model.vocab_size, count)]);
  const plan = () => new Memory(undefined, gpu.memory.limits);
  const trainer = new Trainer(plan(), model, {
    config,
    sizes: new PassPlanner().sizes(windows),
    maxBinding: gpu.maxBinding,
  });
  await trainer.precompile(gpu, windows);
  const generator = new Llama(plan(), {
    config: model,
    numerics: numericsOf({ ...config, exact_products: false }),
    mode: scoreMode({ maxTokens: Math.max(...tokens), maxTargets: 1 }),
  });
  const batches = tokens.map((count) => {
    const ids = Uint32Array.from(randomIds(count, model.vocab_size));
    const document = { ids, targets: targetsAfter(count - 1, ids), weight: 1 };
    return makeBatch([document], generator.slidingWindows[0]);
  });
  await gpu.precompile(() => {
    for (const batch of batches) generator.logits(gpu, batch);
  });
  tilesOf(gpu).listener = undefined;
  return [...asked.values()];
}

/** A product with random operands, ready to be run with any geometry. */
function prepare(gpu: Gpu, tensors: Tensors, product: AskedProduct) {
  const { orientation, a, b, c, m, n, k, operands, maxSplits } = product;
  const rows = orientation === "tn" ? k : m;
  const A = tensors.normal(a, orientation === "tn" ? [k, m] : [m, k], 1);
  const shape = orientation === "nt" ? [n, k] : [k, n];
  const values = tensors.normal("f32", shape, 2);
  const weight = () => {
    const made = makeOperand(
      weightKind(b),
      shape,
      ({ dtype, shape }) => tensors.zeros(dtype, shape),
    );
    encodeWeight(gpu, made, values);
    return made;
  };
  const first = weight(), copies = Math.max(1, Math.min(8, Math.ceil(COLD_BYTES / first.bytes)));
  const B = [first, ...Array.from({ length: copies - 1 }, weight)];
  const C = tensors.zeros(c, [m, n]);
  let call = 0;
  const run = (geometry: MatmulGeometry) => {
    const shared = { a: A, b: B[call++ % copies], rows, operands, geometry };
    if (maxSplits === undefined) return matmul(gpu, { ...shared, orientation, c: C });
    if (orientation === "tn") throw new Error("a weight's gradient has no splits");
    // In place of the launch that adds the splits up.
    sumSplitK(gpu, { d: matmulSplitK(gpu, { ...shared, orientation }), c: C });
  };
  return { run, C };
}

/** That both geometries make the same of the operands. @throws {UserError} where they don't. */
async function compare(
  gpu: Gpu,
  { name, product, predicted, best }: Tuned,
  { run, C }: { run: (geometry: MatmulGeometry) => void; C: Tensor },
): Promise<void> {
  const samples = new Samples();
  run(predicted.geometry);
  const expected = await valuesOf(gpu, C);
  run(best.geometry);
  const actual = await valuesOf(gpu, C);
  for (let i = 0; i < expected.length; i++) samples.add(actual[i], expected[i]);
  if (
    samples.error <= MOST_ERROR[product.operands === "f16" || product.c === "f16" ? "f16" : "f32"]
  ) return;
  throw new UserError(
    `${name}: tiles ${
      JSON.stringify(best.geometry)
    } make other results, relative error ${samples.error}`,
  );
}

/** Measures one product. @throws {UserError} where the best geometry's results are wrong. */
export async function tune(gpu: Gpu, product: AskedProduct): Promise<Tuned> {
  const { m, n, k } = product;
  const rated = geometries(m, n, k, tilesOf(gpu).targetOf(product));
  const candidates = rated.filter(({ seconds }) => seconds <= DOUBT * rated[0].seconds)
    .slice(0, MOST_CANDIDATES).map(({ geometry }) => geometry);
  using tensors = new Tensors(gpu);
  const made = prepare(gpu, tensors, product);
  const seconds = await compareSeconds(
    gpu,
    candidates.map((geometry) => () => made.run(geometry)),
  );
  const all = candidates.map((geometry, i): Timed => ({ geometry, seconds: seconds[i] }));
  const best = all.reduce((a, b) => b.seconds < a.seconds ? b : a);
  const tuned = {
    name: present(productClass(product), "class of the product"),
    product,
    predicted: all[0],
    best,
    all,
  };
  if (best !== all[0]) await compare(gpu, tuned, made);
  return tuned;
}
