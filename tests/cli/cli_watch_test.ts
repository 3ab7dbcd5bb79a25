/** The page of runs, served by the commands with the permissions that the launcher gives them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Report } from "../../train/watch/page/view.ts";
import { gpuTest } from "../kernels/harness.ts";
import { makeRun, metricsLines } from "../train/watch/run_files.ts";
import { lorikeetHere } from "./here.ts";
import { addressOf, end } from "../watch/served.ts";
import { refused, smallData, startLorikeet, TemporaryFolder } from "./cli.ts";

/** A page that a command serves. */
interface Page {
  /** What it says of its runs. */
  report(): Promise<Report>;
  /** Asks the first run to stop. */
  stop(): Promise<Response>;
}

/** The page whose address a command prints. */
async function pageOf(command: Deno.ChildProcess): Promise<Page> {
  const url = await addressOf(command);
  const headers = { Authorization: `Bearer ${url.hash.slice(1)}` };
  return {
    report: async () => await (await fetch(new URL("api/runs", url.origin), { headers })).json(),
    stop: () => fetch(new URL("api/runs/0/stop", url.origin), { method: "POST", headers }),
  };
}

Deno.test("cli: watch serves runs, and stops one that is at work", async () => {
  using folder = new TemporaryFolder();
  const runs = ["one", "two"].map((name, i) =>
    makeRun(join(folder.path, name), { "metrics.jsonl": metricsLines(1, 5 + i) })
  );
  const command = await startLorikeet("watch", [...runs, "--port", "0"]);
  try {
    const page = await pageOf(command), { runs: [one, two] } = await page.report();
    assert.deepEqual([one.name, one.step, two.name, two.step], ["one", 5, "two", 6]);
    assert.equal((await page.stop()).status, 200);
    assert.equal(Deno.readTextFileSync(join(runs[0], "stop")), "stop");
  } finally {
    await end(command);
  }
});

Deno.test("cli: watch refuses what is no run, and a port that is none", async () => {
  using folder = new TemporaryFolder();
  const file = folder.file("file", "");
  refused(await lorikeetHere("watch", []), 2, "no run is given; expected the folders of runs");
  refused(
    await lorikeetHere("watch", [join(folder.path, "none")]),
    1,
    "does not exist; expected a run",
  );
  refused(await lorikeetHere("watch", [file]), 1, "is no folder; expected that of a run");
  refused(await lorikeetHere("watch", [folder.path]), 1, 'holds "file" and nothing of a run');
  refused(
    await lorikeetHere("watch", [folder.path, "--port", "65536"]),
    2,
    "--port is 65536; expected",
  );
  refused(
    await lorikeetHere("train", ["--watch-port", "80"]),
    2,
    "--watch-port is given, but --watch is not",
  );
});

gpuTest(
  "cli: train --watch shows the run while it trains, and its button saves and stops it",
  async () => {
    using folder = new TemporaryFolder();
    const output = join(folder.path, "run"), data = folder.file("data.json", smallData(64));
    const command = await startLorikeet("train", [
      ...["--watch", "--model", "builtin", "--data", data, "--output", output],
      ...["--gradient-accumulation-steps", "1", "--epochs", "1000"],
    ]);
    const page = await pageOf(command);
    while (((await page.report()).runs[0]?.step ?? 0) < 2) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.equal((await page.stop()).status, 200);
    const messages = new Response(command.stderr).text();
    const { code } = await command.status;
    assert.equal(code, 130, await messages);
    assert.ok([...Deno.readDirSync(join(output, "states"))].length > 0, "the state is saved");
    assert.throws(() => Deno.lstatSync(join(output, "stop")), Deno.errors.NotFound);
  },
);
