/**
 * Gradient checkpointing counted: a chain of n equal layers whose forward and backward passes are
 * carried out step by step, with a note of every activation that is held and every layer that runs.
 *
 *     ./lorikeet deno run examples/study/checkpoint_chain.ts
 *
 * Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
 *
 * @module
 */
import { grouped, table } from "./numbers.ts";

/** What a pass forward and backward took. */
export interface ChainCost {
  /** Most activations held at one time, the input not counted. */
  peak: number;
  /** Layers run forward, recomputation included. */
  forward: number;
}

/** A chain of layers with one activation each; activation 0 is the input, which is always there. */
class Chain {
  readonly #held = new Set<number>();
  peak = 0;
  forward = 0;

  /** Runs layer `i`, from activation i − 1 to i. */
  run(i: number): void {
    this.#need(i - 1);
    this.#held.add(i);
    this.forward++;
    this.peak = Math.max(this.peak, this.#held.size);
  }

  /** Goes back through layer `i`, which takes its input and its output. */
  backward(i: number): void {
    this.#need(i - 1);
    this.#need(i);
    this.#held.delete(i);
  }

  /** Forgets activation `i`. */
  drop(i: number): void {
    this.#held.delete(i);
  }

  #need(i: number): void {
    if (i > 0 && !this.#held.has(i)) throw new Error(`activation ${i} is not held`);
  }
}

/**
 * Segments of `length` layers: forward keeps the last activation of each, backward runs a segment again
 * from the one before it and keeps all of it meanwhile. The last segment is kept as forward leaves it.
 */
export function segmented(layers: number, length: number): ChainCost {
  const chain = new Chain();
  const lastSegment = Math.floor((layers - 1) / length) * length;
  for (let i = 1; i <= layers; i++) {
    chain.run(i);
    const inside = (i - 1) % length !== 0;
    if (inside && i - 1 < lastSegment) chain.drop(i - 1);
  }
  for (let first = lastSegment; first >= 0; first -= length) {
    const last = Math.min(first + length, layers);
    // The segment's last activation was kept.
    if (first < lastSegment) { for (let i = first + 1; i < last; i++) chain.run(i); }
    for (let i = last; i > first; i--) chain.backward(i);
  }
  return { peak: chain.peak, forward: chain.forward };
}

/** Keeps nothing: every activation is computed again from the input when backward asks for it. */
export function keepNothing(layers: number): ChainCost {
  const chain = new Chain();
  const runTo = (last: number) => {
    for (let i = 1; i <= last; i++) {
      chain.run(i);
      if (i < last) chain.drop(i - 2);
    }
  };
  runTo(layers);
  chain.backward(layers);
  for (let i = layers - 1; i >= 1; i--) {
    chain.drop(i);
    chain.drop(i - 1);
    runTo(i);
    chain.backward(i);
  }
  return { peak: chain.peak, forward: chain.forward };
}

/** Keeps everything. */
export function keepAll(layers: number): ChainCost {
  return segmented(layers, layers);
}

/** Segments of √n layers, rounded up. */
export function keepRoots(layers: number): ChainCost {
  return segmented(layers, Math.ceil(Math.sqrt(layers)));
}

/** Depths that are compared: each four times the one before. */
export const DEPTHS = [16, 64, 256, 1024];

const STRATEGIES = [
  { name: "keep all", run: keepAll },
  { name: "keep nothing", run: keepNothing },
  { name: "every √n-th", run: keepRoots },
];

/** What the study guide quotes. */
export function lines(): string[] {
  const rows = STRATEGIES.flatMap(({ name, run }) =>
    DEPTHS.map((layers, i) => {
      const { peak, forward } = run(layers);
      const before = i > 0 ? run(DEPTHS[i - 1]) : undefined;
      const growth = (now: number, then?: number) => then ? `× ${(now / then).toFixed(2)}` : "";
      return [
        i === 0 ? name : "",
        ...[layers, peak].map((value) => grouped(value)),
        growth(peak, before?.peak),
        grouped(forward),
        growth(forward, before?.forward),
        (forward / layers).toFixed(2),
      ];
    })
  );
  return table([
    ["strategy", "layers n", "held", "", "forward steps", "", "steps / n"],
    ...rows,
  ]);
}

if (import.meta.main) console.log(lines().join("\n"));
