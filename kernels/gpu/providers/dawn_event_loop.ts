/**
 * Paces Dawn's event-loop polling. While one of its promises is pending, Dawn polls by `setImmediate`, again and
 * again, as fast as it can. A poll leaves a function with a finalizer behind. The time that Deno's garbage collector
 * needs grows with the square of their number: 15 s at once after some twenty waits of 0.2 s. So polls come in
 * intervals here that grow with the wait, and their functions are collected in small portions while the GPU works.
 *
 * @module
 */
import v8 from "node:v8";
import vm from "node:vm";

/** A poll comes this part of the wait after the one before. A result may be late by as much. */
const LATENESS = 1 / 128;
/** Least milliseconds between two polls. */
const LEAST_INTERVAL = 0.05;
/** Polls whose functions are collected together: some milliseconds of work. */
const POLLS_COLLECTED = 2000;
/** A wait of so many milliseconds hides that work. */
const LONG_WAIT = 25;

type Poll = (...args: unknown[]) => void;
/** What has `setImmediate`: the global object. */
export interface PollScope {
  setImmediate: (poll: Poll, ...args: unknown[]) => unknown;
}

/** What is told of waits. */
export interface PollPace {
  /** Something came, and more is waited for, as when files are loaded: what follows is another wait. */
  goOn(): void;
}
/** Milliseconds that a wait which goes on counts as, so that its polls are not too many. */
const WAITED = 64;

/** V8's own collection of everything, which it exposes to a context made after it was told to. */
function collector(): () => void {
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc");
}

/** Replaces `setImmediate` of this scope by one that calls back in growing intervals. */
export function pacePolls(scope: PollScope, collect: () => void = collector()): PollPace {
  const soon = scope.setImmediate.bind(scope);
  const cell = new Int32Array(new SharedArrayBuffer(4));
  let began = 0, lastWait = 0, polls = 0, inPoll = false;

  scope.setImmediate = (poll, ...args) => {
    const now = performance.now();
    // A poll that asks for the next one continues the same wait.
    if (!inPoll) {
      began = now;
      if (polls >= POLLS_COLLECTED && lastWait >= LONG_WAIT) {
        collect();
        polls = 0;
      }
    }
    const run = () => {
      inPoll = true;
      polls++;
      try {
        poll(...args);
      } finally {
        inPoll = false;
        lastWait = performance.now() - began;
      }
    };
    const interval = Math.max(LEAST_INTERVAL, (now - began) * LATENESS);
    if (interval >= 1) return setTimeout(run, interval);
    return soon(() => {
      Atomics.wait(cell, 0, 0, interval); // Timers know only whole milliseconds.
      run();
    });
  };
  return { goOn: () => began = performance.now() - WAITED };
}
