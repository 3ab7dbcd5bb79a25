/**
 * Paces Dawn's polling. While one of its promises is pending, Dawn asks `setImmediate` for one turn
 * after the other, as fast as they come. A turn leaves a function with a finalizer behind, and Deno's
 * garbage collector needs a time that grows with the square of those: 15 s at once after some twenty waits
 * of 0.2 s. So turns come in distances here that grow with the wait, and what they leave is
 * collected in small portions, while the GPU works.
 *
 * @module
 */
import v8 from "node:v8";
import vm from "node:vm";

/** A turn comes this part of the wait after the one before, which is what a result may be late by. */
const LATENESS = 1 / 128;
/** Least milliseconds between two turns. */
const LEAST_DISTANCE = 0.05;
/** Turns whose remains are collected together: some milliseconds of work. */
const TURNS_COLLECTED = 2000;
/** A wait as long as this many milliseconds hides that work. */
const LONG_WAIT = 25;

type Turn = (...args: unknown[]) => void;
/** What turns are asked for: the global object. */
export interface TurnScope {
  setImmediate: (turn: Turn, ...args: unknown[]) => unknown;
}

/** V8's own collection of everything, which it exposes to a context made after it was told to. */
function collector(): () => void {
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc");
}

/** Replaces `setImmediate` of this scope by one whose turns come in growing distances. */
export function paceTurns(scope: TurnScope, collect: () => void = collector()): void {
  const soon = scope.setImmediate.bind(scope);
  const cell = new Int32Array(new SharedArrayBuffer(4));
  let began = 0, lastWait = 0, turns = 0, inTurn = false;

  scope.setImmediate = (turn, ...args) => {
    const now = performance.now();
    // A turn that asks for the next one goes on with its wait.
    if (!inTurn) {
      began = now;
      if (turns >= TURNS_COLLECTED && lastWait >= LONG_WAIT) {
        collect();
        turns = 0;
      }
    }
    const run = () => {
      inTurn = true;
      turns++;
      try {
        turn(...args);
      } finally {
        inTurn = false;
        lastWait = performance.now() - began;
      }
    };
    const distance = Math.max(LEAST_DISTANCE, (now - began) * LATENESS);
    if (distance >= 1) return setTimeout(run, distance);
    return soon(() => {
      Atomics.wait(cell, 0, 0, distance); // Timers know only whole milliseconds.
      run();
    });
  };
}
