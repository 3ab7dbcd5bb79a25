/** `lorikeet bench table2` on launchers that stand for GPUs. */
import assert from "node:assert/strict";
import { providersOf, table2 } from "../../../bench/course/table2.ts";
import type { DeviceInfo } from "../../../bench/device.ts";
import { markdown } from "../../../bench/course/table2_lines.ts";
import { lorikeetProgram, Measurements } from "../../../bench/course/measurements.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { fakeLauncher } from "../../fake_launcher.ts";

/** A launcher with 10 MB of memory, on which a run with AdamW never fits and one with SGD does. */
const small = (gpu: string) =>
  fakeLauncher({ gpu, refuses: "*adamw*--ignore-plan*) by=driver ;; *adamw*) by=plan ;;" });

Deno.test("bench table2: what does not fit is tried, crossed out with its need, and SGD follows", async () => {
  using temporary = new TemporaryFolder();
  const program = lorikeetProgram("sh", [temporary.file("small.sh", small("G"))]);
  const settings = {
    model: "m",
    samples: 1,
    gpu: "auto",
    optimizer: "adamw",
    learning_rate: 1e-5,
  } as const;
  for (const [trust_plan, by] of [[false, "driver"], [true, "plan"]] as const) {
    const measurements = await Measurements.open(temporary.file(by), "auto", program);
    const table = await table2(measurements, { ...settings, trust_plan });
    assert.deepEqual(
      table.rows.map(({ optimizer, fits, refused_by }) => [optimizer, fits, refused_by]),
      Array(16).fill([["adamw", false, by], ["sgd", true, undefined]]).flat(),
    );
    assert.deepEqual([table.rows[0].planned_mb, table.model], [100, "m"]);
    const text = markdown(table);
    assert.match(text, /^\| Peak Mem \(MB\) +(\| +× ){8}\|$/m);
    assert.match(text, /^\| Needed \(MB\) +(\| +100\.0 ){8}\|$/m);
    assert.match(text, /^\| Peak Mem with SGD \(MB\) +(\| +8\.0 ){8}\|$/m);
  }
});

Deno.test("bench table2: another GPU's measurements are refused", async () => {
  using temporary = new TemporaryFolder();
  const settings = { model: "m", samples: 1, gpu: "auto", learning_rate: 1e-5 } as const;
  // With AdamW only refusals are kept.
  for (const optimizer of ["sgd", "adamw"] as const) {
    const measure = async (gpu: string) => {
      const script = temporary.file("small.sh", small(gpu));
      const program = lorikeetProgram("sh", [script]);
      return await table2(await Measurements.open(temporary.file(optimizer), "auto", program), {
        ...settings,
        optimizer,
        trust_plan: optimizer === "sgd",
      });
    };
    await measure("G");
    await assert.rejects(measure("H"), /measurements of G, and .* is H; expected another --folder/);
  }
});

Deno.test("bench table2: where precisions have different providers, both are named", () => {
  const row = (mixed_precision: boolean, provider?: string) => ({ mixed_precision, provider });
  const named = (...rows: ReturnType<typeof row>[]) =>
    providersOf(rows, { provider: "deno" } as DeviceInfo);
  assert.equal(named(row(false), row(true)), "deno");
  assert.equal(named(row(false), row(true, "dawn")), "dawn");
  assert.equal(named(row(true, "dawn"), row(false, "dawn")), "dawn");
  assert.equal(
    named(row(false), row(true), row(true, "dawn"), row(false, "deno")),
    "deno in fp32, dawn in mixed precision",
  );
});
