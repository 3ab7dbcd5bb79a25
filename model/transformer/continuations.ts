/**
 * How likely a model finds continuations of texts: many of them a pass, those that begin alike sharing what they begin
 * with.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { type Batch, makeBatch } from "./batch.ts";
import { commonPrefix } from "./common_prefix.ts";
import type { Llama } from "./llama.ts";
import { type Score, scoreMode } from "./modes.ts";
import { DAMAGED, NotFinite } from "./not_finite.ts";

/** A continuation. */
export interface Continuation {
  /** What the model reads: all that comes before the last id of the continuation. */
  input: Uint32Array;
  /** The continuation, which the rows at the input's end foretell, one each. */
  targets: Uint32Array;
  /** Continuations of the same group, which are next to each other, share what they begin with. */
  group: number;
}

/** What the model says of a continuation. */
export interface Outcome {
  /** Natural logarithm of its probability. */
  logLikelihood: number;
  /** Whether each of its ids is what greedy decoding would choose. */
  greedy: boolean;
}

/** Continuations of a pass, of which all but the first have so many rows in common with the first. */
interface Family {
  /** Their places in the list. The first is a longest one. */
  members: { index: number; shared: number }[];
  /** Rows of the pass. */
  rows: number;
}

/** What a pass computes. */
export type ContinuationPass = readonly Family[];

/** Passes over all continuations. */
export interface ContinuationPlan {
  continuations: readonly Continuation[];
  passes: readonly ContinuationPass[];
}

/** What a pass may have. */
export interface PassLimits {
  /** Tokens of a pass at most, unless a continuation alone has more. */
  tokens: number;
  /** Continuations of a pass at most. */
  continuations: number;
  /** Tokens of a continuation's input at most that may share rows, as of `longestSharing`; null where any may. */
  longestSharing: number | null;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** The continuations of a group in as few families as the limits allow. */
function familiesOf(
  indices: readonly number[],
  continuations: readonly Continuation[],
  limits: PassLimits,
): Family[] {
  const families: Family[] = [];
  const longestFirst = [...indices].sort((a, b) =>
    continuations[b].input.length - continuations[a].input.length
  );
  for (const index of longestFirst) {
    const { input } = continuations[index], family = families.at(-1);
    const first = family && continuations[family.members[0].index].input;
    const fits = (first?.length ?? 0) <= (limits.longestSharing ?? Infinity);
    const shared = first && fits ? commonPrefix(input, first) : 0;
    const added = input.length - shared;
    if (
      family !== undefined && shared > 0 && family.rows + added <= limits.tokens &&
      family.members.length < limits.continuations
    ) {
      family.members.push({ index, shared });
      family.rows += added;
    } else families.push({ members: [{ index, shared: 0 }], rows: input.length });
  }
  return families;
}

/** Plans the passes, the longest first. */
export function planContinuations(
  continuations: readonly Continuation[],
  limits: PassLimits,
): ContinuationPlan {
  const groups = new Map<number, number[]>();
  continuations.forEach(({ group }, index) => {
    const known = groups.get(group);
    if (known === undefined) groups.set(group, [index]);
    else known.push(index);
  });
  const families = [...groups.values()]
    .flatMap((indices) => familiesOf(indices, continuations, limits))
    .sort((a, b) => b.rows - a.rows);
  const passes: Family[][] = [];
  let pass: Family[] | undefined, rows = 0, members = 0;
  for (const family of families) {
    rows += family.rows;
    members += family.members.length;
    if (pass === undefined || rows > limits.tokens || members > limits.continuations) {
      passes.push(pass = []);
      rows = family.rows;
      members = family.members.length;
    }
    pass.push(family);
  }
  return { continuations, passes };
}

/** The mode of a model that computes a plan. */
export function continuationMode({ passes, continuations }: ContinuationPlan): Score {
  let maxTokens = 1, maxTargets = 1, maxPosition = 1;
  for (const pass of passes) {
    const members = pass.flatMap((family) => family.members);
    maxTokens = Math.max(maxTokens, sum(pass.map(({ rows }) => rows)));
    maxTargets = Math.max(
      maxTargets,
      sum(members.map(({ index }) => continuations[index].targets.length)),
    );
    for (const { index } of members) {
      maxPosition = Math.max(maxPosition, continuations[index].input.length);
    }
  }
  return scoreMode({ maxTokens, maxTargets, maxPosition, sharedPrefixes: true, greedy: true });
}

/** A pass as the model takes it. Its targets are in the order of the families' members. */
function batchOf(
  pass: ContinuationPass,
  continuations: readonly Continuation[],
  slidingWindow: number | null,
): Batch {
  // A continuation that another one begins with has no row of its own.
  const documents = pass.flatMap(({ members }) =>
    members.filter(({ index, shared }) => shared < continuations[index].input.length)
      .map(({ index, shared }) => ({
        ids: continuations[index].input,
        targets: [],
        weight: 1,
        shared,
      }))
  );
  const batch = makeBatch(documents, slidingWindow);
  const targetRows: number[] = [], targets: number[] = [];
  let next = 0;
  for (const { members } of pass) {
    const head = next;
    for (const { index, shared } of members) {
      const { input, targets: foretold } = continuations[index], own = next - shared;
      for (const [i, target] of foretold.entries()) {
        const position = input.length - foretold.length + i;
        targetRows.push((position < shared ? head : own) + position);
        targets.push(target);
      }
      next += input.length - shared;
    }
  }
  return {
    ...batch,
    targetCount: targets.length,
    targetRows: Uint32Array.from(targetRows),
    targets: Uint32Array.from(targets),
    weights: new Float32Array(targets.length),
    lossGroups: [],
  };
}

/** Passes whose programs are compiled before the first one. */
const REHEARSED = 8;

/** Launches what the first passes of a plan take, for {@linkcode Gpu.precompile}. */
export function rehearseContinuations(gpu: Gpu, model: Llama, plan: ContinuationPlan): void {
  for (const pass of plan.passes.slice(0, REHEARSED)) computePass(gpu, model, plan, pass);
}

/** Computes a pass, of which the model tells by {@linkcode Llama.readTargets}. */
function computePass(
  gpu: Gpu,
  model: Llama,
  { continuations }: ContinuationPlan,
  pass: ContinuationPass,
): void {
  const batch = batchOf(pass, continuations, model.slidingWindows[0]);
  model.loss(gpu, batch, { backward: false });
}

/**
 * Computes a plan.
 *
 * @param model Made with {@linkcode continuationMode} of it.
 * @param progress Told after each pass how many continuations are done; may throw to end it.
 * @returns what the model says of each continuation, in their order.
 * @throws {NotFinite} where the probability of one is no number.
 */
export async function scoreContinuations(
  gpu: Gpu,
  model: Llama,
  plan: ContinuationPlan,
  progress?: (done: number) => void,
): Promise<Outcome[]> {
  const { continuations, passes } = plan, outcomes = new Array<Outcome>(continuations.length);
  const record = (pass: ContinuationPass | undefined) => {
    if (pass !== undefined) computePass(gpu, model, plan, pass);
  };
  record(passes[0]);
  let done = 0;
  for (const [i, pass] of passes.entries()) {
    const { nll, greedy } = await model.readTargets(gpu, () => record(passes[i + 1]));
    let at = 0;
    for (const { index } of pass.flatMap(({ members }) => members)) {
      const end = at + continuations[index].targets.length;
      const logLikelihood = 0 - sum(Array.from(nll.subarray(at, end)));
      if (!Number.isFinite(logLikelihood)) {
        const what =
          `continuation ${index + 1} of ${continuations.length}: its log-likelihood is ` +
          logLikelihood;
        throw new NotFinite(what, model, DAMAGED);
      }
      outcomes[index] = {
        logLikelihood,
        greedy: greedy.subarray(at, end).every((chosen) => chosen === 1),
      };
      at = end;
      done++;
    }
    progress?.(done);
  }
  return outcomes;
}
