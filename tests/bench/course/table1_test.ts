import assert from "node:assert/strict";
import { lorikeetProgram, Measurements } from "../../../bench/course/measurements.ts";
import {
  arrowOf,
  type Effect,
  type Table1,
  table1,
  table1Lines,
} from "../../../bench/course/table1.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { lorikeet, succeeded, TemporaryFolder } from "../../cli/cli.ts";
import { ROOT } from "../../../scripts/compile.ts";
import { gpuTest } from "../../kernels/harness.ts";

Deno.test("table1: arrows follow from two numbers", () => {
  assert.equal(arrowOf(100, 100, 0), "−");
  assert.equal(arrowOf(0, 0, 0), "−");
  assert.equal(arrowOf(100, 101, 0.005), "↑");
  assert.equal(arrowOf(100, 99, 0.005), "↓");
  assert.equal(arrowOf(100, 99, 0.02), "−");
  assert.equal(arrowOf(0, 1, 0.5), "↑");
});

/** Stands for Lorikeet on a GPU where full fine-tuning of no more than 5 blocks fits. */
const SMALL = `case "$*" in
  *device*) echo '{"gpu": "G", "available_mb": 80000, "software": false}'; exit ;;
esac
layers=\${*#*--layers }
layers=\${layers%% *}
if [ "$layers" -gt "$FITTING" ]; then
  echo '{"refused": {"by": "plan", "total": 1, "needed": {"parameter": 1, "activation": 0, "gradient": 0,
    "optimizer": 0, "workspace": 0}}}'
  exit 1
fi
echo '{"gpu": "G", "provider": "deno", "steps": 4, "work": {"flops": 4e9}, "median_step_seconds": 2,
  "memory_mb": {"parameter": 1, "activation": 2, "gradient": 3, "optimizer": 4, "workspace": 5}}'`;

Deno.test("table1: where the whole model does not fit, the most blocks that do are taken", async () => {
  using temporary = new TemporaryFolder();
  const settings = { gpu: "auto", learning_rate: 1e-5 };
  const measure = async (fitting: number) => {
    const script = SMALL.replace("$FITTING", `${fitting}`);
    const program = lorikeetProgram("sh", [temporary.file(`${fitting}.sh`, script)]);
    const folder = temporary.file(`course-${fitting}`);
    return await table1(await Measurements.open(folder, "auto", program), settings);
  };
  for (const fitting of [1, 5, 31, 32]) {
    const table = await measure(fitting);
    assert.deepEqual([table.layers, table.blocks], [fitting, 32]);
    assert.equal(/first \d+ of 32 blocks/.test(table1Lines(table, false)[0]), fitting < 32);
  }
  await assert.rejects(measure(0), /not even one block of random:llama2-7b fits/);
});

gpuTest("cli: bench table1 derives every arrow from what it measured", async () => {
  using temporary = new TemporaryFolder();
  const flags = ["--model", "random:tiny", "--gpu", "deno", "--folder", temporary.file("course")];
  const run = new Deno.Command(`${ROOT}/lorikeet`, {
    args: ["bench", "table1", ...flags, "--json"],
    stdin: "null",
  });
  const { code, stdout, stderr } = await run.output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const table: Table1 = JSON.parse(new TextDecoder().decode(stdout));
  assert.equal(table.layers, openModel("random:tiny").config.num_hidden_layers);
  const effect = (quantity: string, technique: string): Effect =>
    table.effects.find((e) => e.quantity === quantity && e.technique === technique)!;
  for (const { arrow, with: now, without } of table.effects) {
    assert.ok(arrow === "−" || (arrow === "↑") === (now > without));
  }
  const arrows = (quantity: string) =>
    ["gradient_accumulation", "gradient_checkpointing", "mixed_precision", "lora"]
      .map((technique) => effect(quantity, technique).arrow).join("");
  assert.equal(arrows("Memory: parameter"), "−−↑↑");
  assert.equal(arrows("Memory: activation").slice(0, 3), "↓↓↓");
  assert.equal(arrows("Memory: gradient"), "−−−↓");
  assert.equal(arrows("Memory: optimizer state"), "−−−↓");
  assert.equal(arrows("Computation"), "−↑−↓");
  // Without a GPU and the measurements it would need some: they are all there, and print the same.
  const again = await run.output();
  assert.equal(new TextDecoder().decode(again.stdout), new TextDecoder().decode(stdout));
  assert.match(succeeded(await lorikeet("bench", ["table1", "--help"])), /--folder/);
});
