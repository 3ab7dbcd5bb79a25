/** `lorikeet bench table2` from end to end: killed in the middle it goes on, and tells what it measured. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { combinations, providersOf, type Table2, table2 } from "../../bench/course/table2.ts";
import type { DeviceInfo } from "../../bench/device.ts";
import { markdown } from "../../bench/course/table2_lines.ts";
import { lorikeetProgram, Measurements } from "../../bench/course/measurements.ts";
import { ROOT } from "../../scripts/compile.ts";
import { TemporaryFolder } from "./cli.ts";
import { fakeLauncher } from "../fake_launcher.ts";
import { gpuTest } from "../kernels/harness.ts";

function bench(folder: string): Deno.ChildProcess {
  const flags = ["--model", "random:tiny", "--samples", "2", "--gpu", "deno", "--folder", folder];
  return new Deno.Command(join(ROOT, "lorikeet"), {
    args: ["bench", "table2", ...flags, "--json"],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

const files = (folder: string) =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".json"));

gpuTest("cli: bench table2, killed in the middle, keeps what it measured and ends", async () => {
  using temporary = new TemporaryFolder();
  const folder = temporary.file("course");
  Deno.mkdirSync(folder);
  const killed = bench(folder), output = killed.output();
  while (files(folder).length < 3) await setTimeout(20);
  killed.kill("SIGKILL");
  assert.equal((await output).signal, "SIGKILL");
  const before = new Map(
    files(folder).map((name) => [name, Deno.readTextFileSync(join(folder, name))]),
  );
  const { code, stdout, stderr } = await bench(folder).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const table: Table2 = JSON.parse(new TextDecoder().decode(stdout));
  for (const [name, text] of before) {
    assert.equal(Deno.readTextFileSync(join(folder, name)), text, "measured again");
    const { result } = JSON.parse(text);
    assert.ok(table.rows.some(({ losses }) => losses?.join() === result.losses.join()), name);
  }
  assert.equal(files(folder).length, 16);
  assert.deepEqual(
    table.rows.map((
      { gradient_accumulation, mixed_precision, lora, checkpointing, optimizer },
    ) => ({
      gradient_accumulation,
      mixed_precision,
      lora,
      checkpointing,
      optimizer,
    })),
    combinations("adamw"),
  );
  for (const row of table.rows) {
    assert.ok(row.fits && row.runtime_s! > 0 && row.peak_memory_mb! <= row.planned_mb);
    assert.deepEqual([row.losses!.length, row.step_seconds!.length], [
      2,
      row.gradient_accumulation ? 1 : 2,
    ]);
  }
  const [{ memory_mb: full }, { memory_mb: lora }] = table.rows;
  assert.ok(lora.gradient < full.gradient && lora.optimizer < full.optimizer);
});

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
