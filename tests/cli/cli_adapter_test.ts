/** An adapter of another kind than the default from end to end: made, trained on from, resumed, run and merged. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readAdapter } from "../../model/adapter/adapter_folder.ts";
import { succeeded, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { gpuTest } from "../kernels/harness.ts";
import { assertSameValues } from "../same.ts";

/** The lines of metrics.jsonl but for their times. */
function timeless(output: string): Record<string, unknown>[] {
  const lines = Deno.readTextFileSync(join(output, "metrics.jsonl")).trimEnd().split("\n");
  return lines.map((line) => ({ ...JSON.parse(line), seconds: 0 }));
}

const RUN = [
  ...["--model", "builtin", "--data", "builtin", "--samples", "12", "--precision", "fp32"],
  ...["--gradient-accumulation-steps", "1", "--learning-rate", "1e-2"],
];

gpuTest(
  "cli: a DoRA with a whole module is made, trained on from, resumed, run and merged",
  async () => {
    using folder = new TemporaryFolder();
    const train = async (name: string, ...flags: string[]) => {
      const output = folder.file(name);
      succeeded(await lorikeetHere("train", [...RUN, ...flags, "--output", output]));
      return output;
    };
    const kind = [
      "--lora.dora",
      "--lora.rslora",
      "--lora.rank",
      "3",
      "--lora.targets",
      "q_proj,down_proj,lm_head",
    ];
    const made = await train("made", ...kind, "--lora.modules-to-save", "norm", "--max-steps", "2");
    const adapter = join(made, "adapter"), { config } = readAdapter(adapter);
    assert.deepEqual(
      [config.r, config.use_dora, config.use_rslora, config.modules_to_save],
      [3, true, true, ["norm"]],
    );

    // Nothing of the adapter is said again, not even where the run goes on.
    const whole = await train("whole", "--adapter", adapter, "--max-steps", "3");
    const part = await train("part", "--adapter", adapter, "--max-steps", "1");
    const rest = await train(
      "rest",
      "--resume",
      join(part, "states", "step-00000001"),
      "--max-steps",
      "3",
    );
    assert.deepEqual([...timeless(part), ...timeless(rest)], timeless(whole));
    const file = "adapter/adapter_model.safetensors";
    const [restored, expected] = [rest, whole].map((run) => Deno.readFileSync(join(run, file)));
    assertSameValues(restored, expected, file);
    const refused = await lorikeetHere("train", [
      ...[...RUN, "--adapter", adapter, "--lora.rank", "8", "--output", folder.file("refused")],
    ]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /has rank 3, but lora\.rank is 8; expected the same/);

    const trained = join(whole, "adapter"), merged = folder.file("merged");
    const { max_logit_difference, max_logit } = JSON.parse(succeeded(
      await lorikeetHere("merge", [
        ...[
          "--model",
          "builtin",
          "--adapter",
          trained,
          "--output",
          merged,
          "--dtype",
          "f32",
          "--json",
        ],
      ]),
    ));
    assert.ok(max_logit_difference < 1e-4 * max_logit, `${max_logit_difference} of ${max_logit}`);
    const answer = async (...flags: string[]) =>
      JSON.parse(succeeded(
        await lorikeetHere("generate", [
          ...[
            "--prompt",
            "Say red.",
            "--max-tokens",
            "8",
            "--precision",
            "fp32",
            "--json",
            ...flags,
          ],
        ]),
      )).ids;
    const ids = await answer("--model", "builtin", "--adapter", trained);
    assert.deepEqual(
      await answer("--model", "builtin", "--adapter", trained, "--no-kv-cache"),
      ids,
    );
    assert.deepEqual(await answer("--model", merged), ids);
  },
);
