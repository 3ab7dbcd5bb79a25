/** The README's first command: what it prints, and that generate then says the same. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../../scripts/compile.ts";
import { lorikeet, succeeded, TemporaryFolder } from "./cli.ts";
import { gpuTest } from "../kernels/harness.ts";

gpuTest(
  "cli: train without arguments teaches the built-in model, and generate shows it",
  async () => {
    using folder = new TemporaryFolder();
    const output = folder.file("run");
    const printed = succeeded(await lorikeet("train", ["--output", output]));
    const counts = /^Right answers: (\d+) of 12 before, (\d+) of 12 after\.$/m.exec(printed);
    assert.ok(counts, printed);
    assert.ok(Number(counts[1]) <= 2 && Number(counts[2]) >= 9, counts[0]);
    const { first_loss, last_loss } = JSON.parse(
      Deno.readTextFileSync(join(output, "summary.json")),
    );
    assert.ok(first_loss > 2 && last_loss < 0.15, `${first_loss} to ${last_loss}`);

    const shown = [...printed.matchAll(/^ {4}after {2}[✓✗] (.*)$/gm)].map(([, answer]) => answer);
    const answered = await lorikeet("generate", [
      ...["--model", "builtin", "--adapter", join(output, "adapter"), "--max-tokens", "20"],
      ...["--data", join(ROOT, "examples/builtin/held_out.json"), "--batch-size", "5", "--json"],
    ]);
    const texts = succeeded(answered).trim().split("\n").map((line) =>
      JSON.parse(line).text.trim()
    );
    assert.equal(shown.length, 12);
    // Training keeps activations in f16 and generate in f32: a close call may fall the other way.
    const same = texts.filter((text, i) => text.replaceAll("\n", "⏎") === shown[i]).length;
    assert.ok(same >= 11, `${same} of 12 answers are those that train showed`);
  },
);
