import assert from "node:assert/strict";
import type { Timeline, TimelinePoint } from "../../../bench/course/timeline.ts";
import { CATEGORIES } from "../../../kernels/gpu/memory.ts";
import { refused, succeeded, TemporaryFolder } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";

/** The timeline of the built-in model with these flags. */
async function timelineOf(...flags: string[]): Promise<Timeline> {
  const args = ["timeline", "--model", "builtin", "--tokens", "100", "--json", ...flags];
  return JSON.parse(succeeded(await lorikeetHere("bench", args)));
}

const activation = ({ memory_mb }: TimelinePoint) => memory_mb.activation;
const most = ({ points }: Timeline) => Math.max(...points.map(activation));

Deno.test("timeline: without checkpointing activations pile up until the loss is known", async () => {
  const whole = await timelineOf(), half = await timelineOf("--layers", "2");
  const block = await timelineOf("--checkpointing", "block");
  const pass = await timelineOf("--inference");

  const at = whole.points.findIndex((point) => activation(point) === most(whole));
  const backward = whole.points.findIndex(({ phase }) => phase === "backward");
  const forward = whole.points.slice(0, backward).map(activation);
  assert.deepEqual(forward, forward.toSorted((a, b) => a - b), "the forward pass frees nothing");
  // The loss is known within the first launches of the backward pass.
  assert.ok(Math.abs(at - backward) < whole.points.length / 10, `peak at ${at}, not ${backward}`);
  assert.equal(activation(whole.points.at(-1)!), 0);

  // 4 blocks against 2, beside the residual stream that is there once more than there are blocks.
  assert.ok(most(whole) > 1.7 * most(half) && most(whole) < 2 * most(half));
  assert.ok(most(block) < 0.5 * most(whole), `${most(block)} of ${most(whole)}`);
  assert.ok(most(pass) < 0.5 * most(whole) && activation(pass.points.at(-1)!) === 0);

  for (const timeline of [whole, half, block, pass]) {
    const { points, peak_mb, allocated_mb } = timeline;
    const total = ({ memory_mb }: TimelinePoint) =>
      CATEGORIES.reduce((s, c) => s + memory_mb[c], 0);
    assert.equal(peak_mb, Math.max(...points.map(total)));
    assert.ok(peak_mb <= allocated_mb, "more is in use than there is");
    assert.ok(points.every(({ launch }, i) => launch === i));
  }
  assert.deepEqual(new Set(whole.points.map(({ phase }) => phase)).size, 3);
  assert.deepEqual([...new Set(pass.points.map(({ phase }) => phase))], ["forward"]);
});

Deno.test("timeline: prints what is in use after each phase, and draws it", async () => {
  using folder = new TemporaryFolder();
  const plot = folder.file("timeline.svg");
  const args = ["timeline", "--model", "builtin", "--tokens", "20", "--plot", plot];
  const text = succeeded(await lorikeetHere("bench", args));
  assert.match(text, /^activation +\d+\.\d +\d+\.\d +0\.0 +\d+\.\d +\d+ of \d+$/m);
  assert.match(Deno.readTextFileSync(plot), /^<svg[^]*activation[^]*<\/svg>/);
  refused(
    await lorikeetHere("bench", ["timeline", "--model", "builtin", "--tokens", "99999"]),
    2,
    "--tokens 99999",
  );
});
