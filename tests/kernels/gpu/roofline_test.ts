/** Shares of roofs, idle time from timestamps, and the table of a profile. */
import assert from "node:assert/strict";
import {
  idleSeconds,
  type Profile,
  profileLines,
  type Span,
} from "../../../kernels/gpu/profiler.ts";
import { limitOf } from "../../../kernels/gpu/roofline.ts";
import { median } from "../../../kernels/measure/timing.ts";

const roofs = { bandwidth: 1e12, matmul: 5e13 };
const span = (begin: number, end: number): Span => ({ begin: BigInt(begin), end: BigInt(end) });

Deno.test("roofline: arithmetic intensity decides which roof is in the way", () => {
  // 10 operations a byte: below the 50 where the roofs meet.
  const low = limitOf({ flops: 1e10, bytes: 1e9, seconds: 2e-3 }, roofs);
  assert.deepEqual(low, { roof: "bandwidth", share: 0.5 });
  const high = limitOf({ flops: 1e12, bytes: 1e9, seconds: 0.08 }, roofs);
  assert.deepEqual(high, { roof: "matmul", share: 0.25 });
  assert.equal(limitOf({ flops: 5e10, bytes: 1e9, seconds: 1e-3 }, roofs).share, 1);
});

Deno.test("profile: idle time is what lies between spans, and overlapping ones have none", () => {
  assert.equal(idleSeconds([]), 0);
  assert.equal(idleSeconds([span(5, 9)]), 0);
  assert.equal(idleSeconds([span(0, 1000), span(3000, 4000), span(4000, 9000)]), 2e-6);
  assert.equal(idleSeconds([span(0, 1000), span(500, 1500), span(2500, 3000)]), 1e-6);
  // Clocks count from when the machine started: far beyond 2^53 ns they must stay exact.
  const late = 1n << 60n;
  const spans = [{ begin: late, end: late + 1n }, { begin: late + 501n, end: late + 502n }];
  assert.equal(idleSeconds(spans), 5e-7);
});

Deno.test("profile: the table has each program's roof, and the time between launches", () => {
  const row = { launches: 2, flops: 1e10, bytes: 1e9 };
  const profile: Profile = {
    rows: [{ ...row, key: "slow", seconds: 3e-3 }, { ...row, key: "fast", seconds: 1e-3 }],
    submissions: [span(0, 1), span(2, 3), span(4, 5)],
    gaps: { inside: 5e-4, between: 2e-3 },
    wallSeconds: 0.01,
    roofs,
  };
  const lines = profileLines(profile);
  assert.match(lines[0], /3\.00 ms +75\.0 % +2 launches .* 33 % of bandwidth slow$/);
  assert.match(lines[1], /25\.0 % .* 100 % of bandwidth fast$/);
  assert.match(lines[2], /4\.00 ms in 4 launches$/);
  assert.match(lines[3], /0\.50 ms between launches of one submission$/);
  assert.match(lines[4], /2\.00 ms between 3 submissions$/);
  assert.match(lines[5], /10\.00 ms by the clock$/);
  assert.match(lines[6], /1000\.0 GB\/s .* 50\.000 TFLOP\/s/);
  const unknown = profileLines({ ...profile, roofs: undefined });
  assert.doesNotMatch(unknown.join("\n"), /% of|Roofs/);
});

Deno.test("median: the middle, of an even count the upper one", () => {
  assert.equal(median([3]), 3);
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 1, 3, 2]), 3);
});
