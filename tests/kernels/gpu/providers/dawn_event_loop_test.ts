import assert from "node:assert/strict";
import { paceTurns, type TurnScope } from "../../../../kernels/gpu/providers/dawn_event_loop.ts";

/** Asks for turns as Dawn does, until `milliseconds` are over; the number of turns. */
function wait(scope: TurnScope, milliseconds: number): Promise<number> {
  const began = performance.now();
  let turns = 0;
  return new Promise((resolve) => {
    const ask = () =>
      scope.setImmediate(() => {
        turns++;
        if (performance.now() - began >= milliseconds) resolve(turns);
        else ask();
      });
    ask();
  });
}

function scope(): TurnScope {
  return { setImmediate: (turn, ...args) => setImmediate(turn, ...args) };
}

Deno.test("turns: a wait takes few of them, and each wait begins anew", async () => {
  const paced = scope();
  paceTurns(paced, () => {});
  for (let i = 0; i < 2; i++) {
    const turns = await wait(paced, 100);
    assert.ok(turns > 20 && turns <= 128 + 128 * Math.log(100 / 6.4), `${turns} turns`);
  }
  const turns = await wait(paced, 1);
  assert.ok(turns <= 21, `${turns} turns in a short wait`);
});

Deno.test("turns: what they leave is collected before a wait that follows a long one", async () => {
  const paced = scope();
  let collected = 0;
  paceTurns(paced, () => collected++);
  for (let done = 0; done < 2000;) done += await wait(paced, 40);
  assert.equal(collected, 0);
  await wait(paced, 1);
  assert.equal(collected, 1);
  await wait(paced, 1);
  assert.equal(collected, 1);
});

Deno.test("turns: arguments are passed on, and an error of a turn is the turn's own", async () => {
  const asked: (() => void)[] = [];
  const paced: TurnScope = { setImmediate: (turn) => asked.push(turn as () => void) };
  paceTurns(paced, () => {});
  const seen: unknown[] = [];
  paced.setImmediate((...args) => seen.push(...args), 1, "two");
  paced.setImmediate(() => {
    throw new Error("a turn's own");
  });
  asked[0]();
  assert.deepEqual(seen, [1, "two"]);
  assert.throws(asked[1], /a turn's own/);
  await wait(scope(), 1);
});

Deno.test("turns: V8 exposes its collector", () => {
  paceTurns(scope());
});
