/**
 * Polling of the event loop: signals, connections and the device's reports are events, which a program that never
 * waits would not see.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";

/**
 * Milliseconds between two polls by a timer. Deno's loop takes events of other threads only when it has nothing of its
 * own to do, or else in one of some thirty rounds. `setImmediate` always leaves it something to do: a signal is heard
 * up to 54 polls late (Deno 2.9.6). A timer lets all events in. It takes 2.2 ms, since timers know whole milliseconds
 * only, and the GPU may have nothing to do meanwhile: 2 % of the time at most.
 */
const TIMER_INTERVAL = 100;

let last = -Infinity;

/** Lets listeners hear of events: of all of them where the last poll by a timer is {@linkcode TIMER_INTERVAL} ago. */
export async function pollEventLoop(): Promise<void> {
  if (performance.now() - last < TIMER_INTERVAL) return await setImmediate();
  await new Promise((resolve) => setTimeout(resolve, 0));
  last = performance.now();
}

/** Rounds of the event loop in which a device reports why a call has failed. */
const REPORT_ROUNDS = 50;

/** Calls `look` again and again while reports of a failed call may come: they are events, and come some rounds later. */
export async function whileReported(look: () => Promise<void>): Promise<void> {
  for (let i = 0; i < REPORT_ROUNDS; i++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    await look();
  }
}

const NOTHING = new Uint8Array(0);

/**
 * Lets events of other threads in, and of the network, at once: the loop waits for a thread to answer, as it has nothing
 * of its own to do meanwhile. It takes 0.16 ms (Deno 2.9.6); a message comes 3 ms late between bursts of work of 5 ms, as
 * with a timer, and 58 ms with `setImmediate`.
 */
export async function letEventsIn(): Promise<void> {
  await crypto.subtle.digest("SHA-256", NOTHING);
}
