/** A run whose folder can't be written for a while. scripts/faults/disks.ts does the same with full disks. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exists, smallData, startLorikeet, TemporaryFolder, TOKENIZER } from "./cli.ts";
import { gpuTest } from "../kernels/harness.ts";
import { savedStates } from "../../train/states/saved_states.ts";

gpuTest(
  "cli: a run whose states can't be written goes on, and writes them when they can",
  async () => {
    using folder = new TemporaryFolder();
    const output = folder.file("run"), states = join(output, "states");
    const data = folder.file("data.json", smallData(64));
    const run = await startLorikeet("train", [
      ...["--model", "random:tiny", "--tokenizer", TOKENIZER, "--data", data, "--output", output],
      ...["--gradient-accumulation-steps", "1", "--epochs", "10000", "--save-every", "2"],
    ]);
    const [stdout, stderr] = [run.stdout, run.stderr];
    const drained = stdout.pipeTo(new WritableStream());
    const reader = stderr.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const says = async (pattern: RegExp) => {
      while (!pattern.test(text)) {
        const { value, done } = await reader.read();
        assert.ok(!done, text);
        text += value;
      }
    };
    while (savedStates(states).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const aside = folder.file("aside");
    Deno.renameSync(states, aside);
    // A file is in the way, also where the tests run as root.
    for (let isThere = false; !isThere;) {
      try {
        Deno.writeTextFileSync(states, "");
        isThere = true;
      } catch {
        Deno.removeSync(states, { recursive: true }); // the run has made it anew meanwhile
      }
    }
    await says(/cannot write .*states.*; the run goes on, and tries again/);
    Deno.removeSync(states);
    Deno.renameSync(aside, states);
    await says(/The state is written again/);
    run.kill("SIGTERM");
    await says(/Go on with/);
    await reader.cancel();
    assert.equal((await run.status).code, 143);
    await drained;
    assert.equal(text.match(/the run goes on/g)?.length, 1);
    assert.ok(!exists(join(output, "adapter")));
  },
);
