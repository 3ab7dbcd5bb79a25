/**
 * Turns for the event loop: signals, connections and the device's reports are events, which a program that never
 * waits would not see.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";

/**
 * Milliseconds from one turn of a timer to the next. Deno's loop looks after what comes from other threads
 * only when it has nothing of its own to do, or else at one of some thirty rounds, and `setImmediate` always leaves it
 * something: a signal is heard up to 54 turns late (Deno 2.9.6). A timer lets everything in, and takes 2.2 ms, as it
 * knows whole milliseconds only, in which the GPU may have nothing to do: 2 % of the time at most.
 */
const TIMER_DISTANCE = 100;

let last = -Infinity;

/** Lets listeners hear what has happened, all of it where the last time is {@linkcode TIMER_DISTANCE} ago. */
export async function eventTurn(): Promise<void> {
  if (performance.now() - last < TIMER_DISTANCE) return await setImmediate();
  await new Promise((resolve) => setTimeout(resolve, 0));
  last = performance.now();
}
