/** Runs that learn preferences: what they write, that they go on where they stopped, and what they take. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse as parseCsv } from "csv/sync";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { parseTrainArguments } from "../../../train/config/config.ts";
import { largestPass, setUpTraining } from "../../../train/setup.ts";
import { Trainer } from "../../../train/trainer.ts";
import { succeeded, TemporaryFolder, TOKENIZER } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { assertSameValues } from "../../same.ts";

/** Pairs of answers to prompts that begin alike, one of the answers long. */
function pairData(count: number): string {
  const words = ["red", "blue", "green", "white", "black"];
  return JSON.stringify(Array.from({ length: count }, (_, i) => ({
    prompt: `Say the colour of bird ${i} and of the sky above the bird:`,
    chosen: ` ${words[i % 5]}`,
    rejected: ` ${words[(i + 1) % 5]} and ${words[(i + 3) % 5]}`,
  })));
}

/** Six steps of two micro-batches of two pairs, with all that draws random numbers. */
const RUN = ["--model", "random:tiny", "--tokenizer", TOKENIZER, "--epochs", "2"]
  .concat(["--batch-size", "2", "--gradient-accumulation-steps", "2"])
  .concat(["--learning-rate", "3e-3", "--packing"]);

const EXAMPLE = "../../../examples/preference.yaml";

type Line = Record<string, unknown>;

/** Lines of a file without what the clock says. */
function linesOf(run: string, name: string): Line[] {
  return Deno.readTextFileSync(join(run, name)).trimEnd().split("\n").map((text) => {
    const { seconds: _, ...line } = JSON.parse(text);
    return line;
  });
}

const FIGURES = ["rewards_chosen", "rewards_rejected", "rewards_accuracies", "rewards_margins"]
  .concat(["logps_chosen", "logps_rejected"]);
const OBJECTIVES: [name: string, figures: string[], ...flags: string[]][] = [
  ["dpo", FIGURES, "--lora.dropout", "0.2", "--checkpointing", "block", "--csv"],
  ["kto", [...FIGURES, "kl"], "--lora.dropout", "0.2", "--precision", "fp32"],
  ["orpo", [...FIGURES, "nll_loss"], "--lora", "off"],
];

for (const [objective, figures, ...flags] of OBJECTIVES) {
  gpuTest(
    `a run of ${objective} is evaluated, and goes on to the bit where it stopped`,
    async () => {
      using folder = new TemporaryFolder();
      const data = folder.file("data.json", pairData(12));
      const eval_data = folder.file("held.json", pairData(5));
      const train = async (output: string, ...more: string[]) =>
        succeeded(
          await lorikeetHere("train", [
            ...[...RUN, ...flags, "--objective", objective, "--data", data, "--output", output],
            ...[
              "--eval-data",
              eval_data,
              "--eval-every",
              "3",
              "--keep-best",
              "--early-stopping",
              "9",
            ],
            ...more,
          ]),
        );
      const whole = folder.file("whole"), parts = folder.file("parts");
      const said = await train(whole, "--eval-samples", "1", "--eval-max-tokens", "2");
      await train(parts, "--max-steps", "2");
      await train(parts, "--resume", "auto");
      const steps = linesOf(whole, "metrics.jsonl"),
        evaluations = linesOf(whole, "evaluations.jsonl");
      assert.deepEqual(linesOf(parts, "metrics.jsonl"), steps);
      const file = objective === "orpo"
        ? "model/model.safetensors"
        : "adapter/adapter_model.safetensors";
      assertSameValues(
        Deno.readFileSync(join(parts, file)),
        Deno.readFileSync(join(whole, file)),
        file,
      );
      for (const line of [...steps, ...evaluations]) {
        const own = Object.entries(line).filter(([name]) =>
          /_|^kl$/.test(name) && figures.includes(name)
        );
        assert.deepEqual(own.map(([name]) => name), figures);
        assert.ok(
          own.every(([, value]) =>
            Number.isFinite(value) || (objective === "kto" && value === null)
          ),
          JSON.stringify(line),
        );
      }
      assert.ok(evaluations.every(({ perplexity }) => perplexity === null));
      if (objective !== "orpo") {
        const [{ rewards_accuracies, rewards_margins }] = evaluations;
        assert.deepEqual([rewards_accuracies, rewards_margins], [0.5, 0]);
      }
      assert.match(
        said,
        /Held-out loss before: \d\.\d+, accuracy \d\.\d{3}, margin -?\d\.\d{3}\n {2}Say/,
      );
      assert.match(said, objective === "kto" ? /Data: .*, 24 samples/ : /Data: .*, 12 pairs/);
      if (!flags.includes("--csv")) return;
      const [names, ...rows] = parseCsv(
        Deno.readTextFileSync(join(whole, "metrics.csv")),
      ) as string[][];
      assert.deepEqual(names.slice(-figures.length), figures);
      assert.deepEqual(
        rows.map((row) => row.slice(-figures.length)),
        steps.map((line) => figures.map((name) => String(line[name]))),
      );
      const held = parseCsv(Deno.readTextFileSync(join(whole, "evaluations.csv"))) as string[][];
      assert.deepEqual(held[0].slice(-figures.length), figures);
    },
  );
}

gpuTest("the built-in model learns the example's preference from half of its pairs", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), config = fileURLToPath(new URL(EXAMPLE, import.meta.url));
  const short = ["--samples", "56", "--eval-every", "100", "--eval-samples", "0"];
  succeeded(await lorikeetHere("train", [config, ...short, "--output", output]));
  const [before, after] = linesOf(output, "evaluations.jsonl");
  assert.deepEqual([before.rewards_accuracies, before.rewards_margins], [0.5, 0]);
  assert.ok(Number(after.rewards_accuracies) > 0.8, JSON.stringify(after));
  assert.ok(Number(after.rewards_margins) > 0.5, JSON.stringify(after));
});

Deno.test("dpo takes at most a tenth more memory than sft with the same rows", async () => {
  using folder = new TemporaryFolder();
  const pairs = JSON.parse(pairData(24)) as { prompt: string; chosen: string; rejected: string }[];
  const data = folder.file("pairs.json", JSON.stringify(pairs));
  const rows = pairs.flatMap(({ prompt, chosen, rejected }) => [
    { prompt, completion: chosen },
    { prompt, completion: rejected },
  ]);
  const alone = folder.file("rows.json", JSON.stringify(rows));
  const planned = async (...flags: string[]) => {
    const config = parseTrainArguments([
      ...["--model", "random:tiny", "--tokenizer", TOKENIZER, "--output", folder.file("unused")],
      ...["--no-shuffle", ...flags],
    ]);
    const setup = await setUpTraining({ config, givenLora: new Set() }, () => {});
    const memory = new Memory(), { objective, planner, source } = setup;
    const options = { config, sizes: largestPass(setup), maxBinding: Infinity, objective, planner };
    new Trainer(memory, source.config, options);
    return memory.peakTotal;
  };
  for (const packing of ["--packing", "--no-packing"]) {
    const dpo = await planned("--objective", "dpo", "--data", data, "--batch-size", "2", packing);
    const sft = await planned("--data", alone, "--batch-size", "4", packing);
    assert.ok(dpo <= 1.1 * sft, `${dpo} bytes beside ${sft}`);
  }
});
