/**
 * A Llama in float64 on the CPU, forward and backward written out by hand: the oracle for cases
 * that the PyTorch fixtures don't cover (other head counts, packed rows, dropout masks).
 * reference_test.ts checks it against those fixtures and against finite differences.
 *
 * Shapes: T rows (tokens of all samples laid end to end), matrices row-major, weights [out, in].
 */
import type {
  ReferenceModel,
  ReferenceSample,
  ReferenceTensors,
  ReferenceWindow,
  Vector,
} from "./reference_model.ts";
import { Pass } from "./reference_pass.ts";

/** Logits [T, vocab] of sequences laid end to end in one row, each attending only to itself. */
export function referenceLogits(model: ReferenceModel, sequences: Vector[]): Float64Array {
  return new Pass(model, sequences, 0).logits;
}

/** Positions of a sample's targets. */
function targetsOf({ targets }: ReferenceSample): number[] {
  return targets.flatMap(([begin, end]) =>
    Array.from({ length: end - begin }, (_, i) => begin + i)
  );
}

/** How many tokens of a sample are targets. */
export function supervisedTokens(sample: ReferenceSample): number {
  return targetsOf(sample).length;
}

/** Negative log-likelihoods of each sample's supervised tokens, in order. */
export function referenceNll(model: ReferenceModel, samples: ReferenceSample[]): number[][] {
  const { vocab_size } = model.config;
  const logits = referenceLogits(model, samples.map((sample) => sample.ids));
  let row = 0;
  return samples.map((sample) => {
    const nll = [];
    for (const p of targetsOf(sample)) {
      const own = logits.subarray((row + p - 1) * vocab_size, (row + p) * vocab_size);
      nll.push(logSumExp(own) - own[sample.ids[p]]);
    }
    row += sample.ids.length;
    return nll;
  });
}

function logSumExp(values: Float64Array): number {
  const top = Math.max(...values);
  return top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
}

/** A micro-batch after its forward pass. */
interface ScoredBatch {
  pass: Pass;
  loss: number;
  /** Its share of the window's loss. */
  share: number;
  /** The gradient of the window's loss by the logits. */
  dLogits: Float64Array;
}

function scoreBatches(
  model: ReferenceModel,
  batches: ReferenceSample[][],
  normalization: "sample" | "token",
): ScoredBatch[] {
  const count = (batch: ReferenceSample[]) =>
    batch.reduce((sum, sample) => sum + supervisedTokens(sample), 0);
  const windowTokens = batches.reduce((sum, batch) => sum + count(batch), 0);
  const { vocab_size } = model.config;
  return batches.map((batch, index) => {
    // A token's share of its micro-batch's loss, and the micro-batch's share of the window's.
    const share = normalization === "token"
      ? count(batch) / Math.max(1, windowTokens)
      : 1 / batches.length;
    const pass = new Pass(model, batch.map((sample) => sample.ids), index);
    const weights = batch.map((sample) =>
      normalization === "token" ? 1 / count(batch) : 1 / (supervisedTokens(sample) * batch.length)
    );
    return { pass, share, ...weighedNll(pass, vocab_size, { batch, weights, share }) };
  });
}

/**
 * Σ weight · nll over the supervised tokens of a pass's samples, with a weight a sample, and the gradient of `share`
 * times that by the logits.
 */
function weighedNll(
  { logits }: Pass,
  vocabulary: number,
  { batch, weights, share }: { batch: ReferenceSample[]; weights: number[]; share: number },
): { loss: number; dLogits: Float64Array } {
  const dLogits = new Float64Array(logits.length);
  let loss = 0, start = 0;
  batch.forEach((sample, i) => {
    const { ids } = sample, weight = weights[i];
    for (const p of targetsOf(sample)) {
      const at = (start + p - 1) * vocabulary;
      const own = logits.subarray(at, at + vocabulary);
      const normalizer = logSumExp(own);
      loss += weight * (normalizer - own[ids[p]]);
      for (let c = 0; c < vocabulary; c++) {
        const target = c === ids[p] ? 1 : 0;
        dLogits[at + c] += share * weight * (Math.exp(own[c] - normalizer) - target);
      }
    }
    start += ids.length;
  });
  return { loss, dLogits };
}

/** The window's loss, as {@linkcode referenceWindow} has it, without the gradients. */
export function referenceLoss(
  model: ReferenceModel,
  batches: ReferenceSample[][],
  normalization: "sample" | "token",
): number {
  return scoreBatches(model, batches, normalization)
    .reduce((sum, { loss, share }) => sum + share * loss, 0);
}

/** A window of no micro-batches. */
function emptyWindow({ weights, lora }: ReferenceModel): ReferenceWindow {
  const zeros = (tensors: ReferenceTensors) =>
    new Map([...tensors].map(([name, data]) => [name, new Float64Array(data.length)]));
  return { losses: [], loss: 0, weights: zeros(weights), lora: zeros(lora?.weights ?? new Map()) };
}

/**
 * Losses and gradients of one accumulation window. `sample`: a micro-batch's loss is the mean over
 * its samples of each sample's mean token loss, and the window's the mean over its micro-batches;
 * `token`: every supervised token of the window weighs the same. A sample without supervised tokens
 * counts as a loss of 0.
 */
export function referenceWindow(
  model: ReferenceModel,
  batches: ReferenceSample[][],
  normalization: "sample" | "token",
): ReferenceWindow {
  const out = emptyWindow(model);
  for (const { pass, loss, share, dLogits } of scoreBatches(model, batches, normalization)) {
    pass.backward(dLogits, out);
    out.losses.push(loss);
    out.loss += share * loss;
  }
  return out;
}

/** The gradients of Σ weight · nll over the supervised tokens of a window, with a weight a sample. */
export function referenceGradients(
  model: ReferenceModel,
  batches: ReferenceSample[][],
  weights: number[][],
): Pick<ReferenceWindow, "weights" | "lora"> {
  const out = emptyWindow(model), { vocab_size } = model.config;
  batches.forEach((batch, index) => {
    const pass = new Pass(model, batch.map(({ ids }) => ids), index);
    const { dLogits } = weighedNll(pass, vocab_size, { batch, weights: weights[index], share: 1 });
    pass.backward(dLogits, out);
  });
  return out;
}

/** The L2 norm of all gradients together, as torch.nn.utils.clip_grad_norm_ reports it. */
export function globalNorm(gradients: ReferenceTensors): number {
  let sum = 0;
  for (const data of gradients.values()) {
    for (let i = 0; i < data.length; i++) sum += data[i] ** 2;
  }
  return Math.sqrt(sum);
}
