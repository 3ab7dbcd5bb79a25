import assert from "node:assert/strict";
import { lorikeetProgram, Measurements } from "../../../bench/course/measurements.ts";
import { arrowOf, table1, table1Lines } from "../../../bench/course/table1.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

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
