import assert from "node:assert/strict";
import { pacePolls, type PollScope } from "../../../../kernels/gpu/providers/dawn_event_loop.ts";

/** Polls as Dawn does, until `milliseconds` are over; returns the number of polls. */
function wait(scope: PollScope, milliseconds: number): Promise<number> {
  const began = performance.now();
  let polls = 0;
  return new Promise((resolve) => {
    const ask = () =>
      scope.setImmediate(() => {
        polls++;
        if (performance.now() - began >= milliseconds) resolve(polls);
        else ask();
      });
    ask();
  });
}

function scope(): PollScope {
  return { setImmediate: (poll, ...args) => setImmediate(poll, ...args) };
}

Deno.test("Dawn's polling: a wait takes few polls, and each wait begins anew", async () => {
  const paced = scope();
  pacePolls(paced, () => {});
  for (let i = 0; i < 2; i++) {
    const polls = await wait(paced, 100);
    assert.ok(polls > 20 && polls <= 128 + 128 * Math.log(100 / 6.4), `${polls} polls`);
  }
  const polls = await wait(paced, 1);
  assert.ok(polls <= 21, `${polls} polls in a short wait`);
});

Deno.test("Dawn's polling: a wait in which something came is polled often again", async () => {
  for (const comes of [false, true]) {
    const asked: (() => void)[] = [];
    const paced: PollScope = { setImmediate: (poll) => asked.push(poll as () => void) };
    const pace = pacePolls(paced, () => {});
    const later = new Promise<void>((resolve) => {
      paced.setImmediate(() => {
        if (comes) pace.goOn();
        paced.setImmediate(() => resolve());
      });
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    asked[0]();
    // Intervals of a millisecond and more are those of a timer.
    assert.equal(asked.length, comes ? 2 : 1);
    asked[1]?.();
    await later;
  }
});

Deno.test("Dawn's polling: what polls leave is collected before a wait that follows a long one", async () => {
  const paced = scope();
  let collected = 0;
  pacePolls(paced, () => collected++);
  for (let done = 0; done < 2000;) done += await wait(paced, 40);
  assert.equal(collected, 0);
  await wait(paced, 1);
  assert.equal(collected, 1);
  await wait(paced, 1);
  assert.equal(collected, 1);
});

Deno.test("Dawn's polling: arguments are passed on, and an error of a poll is the poll's own", async () => {
  const asked: (() => void)[] = [];
  const paced: PollScope = { setImmediate: (poll) => asked.push(poll as () => void) };
  pacePolls(paced, () => {});
  const seen: unknown[] = [];
  paced.setImmediate((...args) => seen.push(...args), 1, "two");
  paced.setImmediate(() => {
    throw new Error("a poll's own");
  });
  asked[0]();
  assert.deepEqual(seen, [1, "two"]);
  assert.throws(asked[1], /a poll's own/);
  await wait(scope(), 1);
});

Deno.test("Dawn's polling: V8 exposes its collector", () => {
  pacePolls(scope());
});
