/** Four steps of every objective of preferences against TRL's; tests/fixtures/README.md gives the tolerances. */
import assert from "node:assert/strict";
import type { SampleGroup, TokenizedSample } from "../../../model/text/prompt.ts";
import { targetsAfter } from "../../../model/text/targets.ts";
import { withPrompt } from "../../../train/objective/orpo.ts";
import type { AccumulationWindow } from "../../../train/planner.ts";
import { type PreferenceCase, readFixture } from "../../fixtures.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import { fixtureSubject, openTrainer, type Settings } from "../runs.ts";

const { cases, pairs, unpaired, eos, accumulation, learningRate } = readFixture("preferences.json");

type Part = NonNullable<TokenizedSample["part"]>;

/** A prompt with an answer and its end, cut. */
function sample(prompt: number[], answer: number[], part: Part, most: number): TokenizedSample {
  const all = [...prompt, ...answer, eos], ids = Uint32Array.from(all.slice(0, most));
  return { ids, targets: targetsAfter(prompt.length, ids), truncated: all.length > most, part };
}

/** The rows of a case, in order. */
function groups({ objective, maxLength }: PreferenceCase): SampleGroup[] {
  if (objective === "kto") {
    return unpaired.map(({ prompt, completion, label }) => [
      sample(prompt, completion, label ? "chosen" : "rejected", maxLength),
    ]);
  }
  const made = pairs.map(({ prompt, chosen, rejected }) => [
    sample(prompt, chosen, "chosen", maxLength),
    sample(prompt, rejected, "rejected", maxLength),
  ]);
  return objective === "orpo" ? made.map(withPrompt) : made;
}

function windows(c: PreferenceCase): AccumulationWindow[] {
  const rows = groups(c), size = c.batchSize;
  return c.steps.map((_, step) =>
    Array.from({ length: accumulation }, (_, i) => {
      const first = (step * accumulation + i) * size;
      return rows.slice(first, first + size).flat();
    })
  );
}

const MODES: Record<string, Settings> = {
  "alone": {},
  "packed": { packing: true },
  "packed, without sharing, checkpointed": {
    packing: true,
    share_prefixes: false,
    checkpointing: "block",
  },
};

for (const c of cases) {
  const modes = ["dpo", "orpo", "simpo", "kto"].includes(c.name) ? Object.keys(MODES) : ["packed"];
  for (const mode of modes) {
    gpuTest(`${c.name} equals TRL's: ${mode}`, async (gpu) => {
      const subject = fixtureSubject({ model: "llama", adapter: "adapter_qv" }), all = windows(c);
      const { objective, batchSize: batch_size, maxLength: max_length, keys } = c;
      const trainer = openTrainer(gpu, subject, all, {
        ...MODES[mode],
        ...keys,
        objective,
        batch_size,
        max_length,
        gradient_accumulation_steps: accumulation,
      });
      for (const [i, window] of all.entries()) {
        const firstMicroBatch = i * accumulation, expected = c.steps[i];
        const result = await trainer.step(gpu, window, { learningRate, firstMicroBatch });
        const close = (actual: number[], wanted: number[], rtol: number, what: string) =>
          assertClose(actual, wanted, { atol: rtol, rtol, what: `step ${i + 1}, ${what}` });
        close(result.losses, expected.losses, 1e-4, "losses");
        close([result.gradNorm], [expected.gradNorm], 1e-3, "norm");
        const figures = new Map<string, number>(Object.entries(result.figures));
        for (const [name, value] of Object.entries(expected.metrics)) {
          close([figures.get(name.replace("/", "_")) ?? NaN], [value], 1e-3, name);
        }
        assert.deepEqual(Object.keys(result.figures), [...trainer.objective.figures]);
      }
    });
  }
}
