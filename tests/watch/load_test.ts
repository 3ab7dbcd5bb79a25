/**
 * Long runs on the page. By default they are short enough for every run of the tests: LORIKEET_WATCH_LINES=100000 makes
 * them long and bounds the time until they are shown, LORIKEET_WATCH_MINUTES=10 adds to them for so long and bounds the
 * server's memory.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startLorikeet } from "../cli/cli.ts";
import { inFolder, makeRun, metricsLines } from "../train/watch/run_files.ts";
import { browserTest, LAPTOP } from "./chromium.ts";
import { addressOf, end } from "./served.ts";

const GIVEN_LINES = Deno.env.get("LORIKEET_WATCH_LINES");
const LINES = Number(GIVEN_LINES ?? 3000);
const MINUTES = Number(Deno.env.get("LORIKEET_WATCH_MINUTES") ?? 0);
/** Milliseconds until ten runs are shown, and by how much a server's memory may differ in MB. */
const LONGEST = 2000, MOST_GROWTH = 20;

/** Resident memory of a process in MB. */
function memoryOf(pid: number): number {
  const [, kB] = /^VmRSS:\s+(\d+)/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`)) ?? [];
  return Number(kB) / 1000;
}

browserTest(
  `watch page: ten runs of ${LINES} lines are shown, and grow`,
  ({ page, faults }) =>
    inFolder(async (parent) => {
      const text = metricsLines(1, LINES);
      const runs = Array.from(
        { length: 10 },
        (_, i) => makeRun(join(parent, `run${i}`), { "metrics.jsonl": text }),
      );
      await page.setViewport(LAPTOP);
      const began = performance.now();
      const command = startLorikeet("watch", runs);
      try {
        const url = await addressOf(command);
        await page.goto(url.href);
        const shown = (steps: number) =>
          page.waitForFunction(
            `/running$/.test(document.querySelector("#state").textContent) &&
            document.querySelectorAll("#charts canvas").length === 5 &&
            [...document.querySelectorAll('td[data-label="Step"]')].every((cell) => cell.textContent === "${steps}")`,
            { polling: 20, timeout: 60_000 },
          );
        await shown(LINES);
        const took = performance.now() - began;
        console.log(`    ten runs of ${LINES} lines were shown after ${Math.round(took)} ms`);
        if (GIVEN_LINES !== undefined) assert.ok(took < LONGEST, `${took} ms`);

        let steps = LINES;
        const grow = async () => {
          const more = metricsLines(steps + 1, steps + 5);
          steps += 5;
          for (const run of runs) {
            Deno.writeTextFileSync(join(run, "metrics.jsonl"), more, { append: true });
          }
          await shown(steps);
        };
        await grow();
        if (MINUTES > 0) {
          const until = performance.now() + 60_000 * MINUTES, warm = until - 54_000 * MINUTES;
          while (performance.now() < warm) await grow();
          const first = memoryOf(command.pid);
          while (performance.now() < until) await grow();
          const last = memoryOf(command.pid);
          console.log(
            `    the server had ${first} MB, and ${last} MB ${0.9 * MINUTES} minutes later`,
          );
          assert.ok(last < first + MOST_GROWTH, `${first} MB, then ${last} MB`);
        }
        assert.deepEqual(faults, []);
      } finally {
        await end(command);
      }
    }),
);
