/** Objectives of preferences on the host: weights against the slopes of their losses, and what they say of a window. */
import assert from "node:assert/strict";
import { supervisedTokens, type TokenizedSample } from "../../../model/text/prompt.ts";
import { targetsAfter } from "../../../model/text/targets.ts";
import { objectiveOf } from "../../../train/config/configured_objective.ts";
import { makeTrainConfig, type PartialTrainConfig } from "../../../train/config/config.ts";
import { marginLoss } from "../../../train/objective/margin_loss.ts";
import type { LogLikelihoods, Objective } from "../../../train/objective/objective.ts";
import { withPrompt } from "../../../train/objective/orpo.ts";
import { type AccumulationWindow, PassPlanner } from "../../../train/planner.ts";
import { assertClose, random } from "../../kernels/harness.ts";

type Part = NonNullable<TokenizedSample["part"]>;

function sample(length: number, promptLength: number, part: Part, first = 5): TokenizedSample {
  const ids = Uint32Array.from({ length }, (_, i) => first + i);
  return { ids, targets: targetsAfter(promptLength, ids), truncated: false, part };
}

const pair = (length: number, prompt: number, chosen: number, rejected: number) => [
  sample(prompt + chosen, prompt, "chosen", length),
  sample(prompt + rejected, prompt, "rejected", length),
];
/** Micro-batches of two pairs and of one. */
const PAIRS = [[pair(3, 4, 2, 5), pair(9, 6, 1, 3)], [pair(20, 2, 7, 4)]];

function windowOf({ objective }: PartialTrainConfig): AccumulationWindow {
  if (objective === "orpo") return PAIRS.map((batch) => batch.flatMap(withPrompt));
  return PAIRS.map((batch) => batch.flat());
}

/** Log-likelihoods of every sample that is scored, by each model. */
function scoresOf(objective: Objective, window: AccumulationWindow): number[][][] {
  const next = random(5), beside = objective.scoredBeside?.(window) ?? [];
  return objective.scoredWith.map(() =>
    [...window, ...beside].map((samples) =>
      samples.map((sample) => -supervisedTokens(sample) * (1.5 + 0.5 * next()))
    )
  );
}

const lossOf = (objective: Objective, window: AccumulationWindow, scores: LogLikelihoods[]) =>
  objective.weigh(window, scores).losses(new Float32Array()).loss;

const CASES: PartialTrainConfig[] = [
  { objective: "dpo", beta: 0.7 },
  { objective: "dpo", beta: 0.4, label_smoothing: 0.2 },
  { objective: "dpo", beta: 0.4, label_smoothing: 0.2, loss_type: "robust" },
  { objective: "dpo", beta: 0.2, loss_type: "hinge" },
  { objective: "dpo", beta: 0.3, loss_type: "ipo" },
  { objective: "dpo", beta: 0.3, loss_type: "ipo", length_normalization: false },
  { objective: "dpo", beta: 2, length_normalization: true },
  { objective: "orpo", beta: 0.6 },
  { objective: "simpo", beta: 2.5, simpo_gamma: 1.2, label_smoothing: 0.1 },
  { objective: "simpo", beta: 0.3, length_normalization: false },
  { objective: "kto", beta: 0.5, desirable_weight: 1.3, undesirable_weight: 0.6, batch_size: 2 },
];

for (const given of CASES) {
  Deno.test(`weights are what the loss falls by: ${JSON.stringify(given)}`, () => {
    const objective = objectiveOf(makeTrainConfig(given), 64), window = windowOf(given);
    const scores = scoresOf(objective, window), { weights } = objective.weigh(window, scores);
    const h = 1e-5, losses: number[] = [];
    for (const [slot, samples] of window.entries()) {
      for (const index of samples.keys()) {
        const [up, down] = [h, -h].map((by) => {
          const moved = structuredClone(scores);
          moved[0][slot][index] += by;
          return lossOf(objective, window, moved);
        });
        losses.push((down - up) / (2 * h));
      }
    }
    assert.ok(losses.some((slope) => Math.abs(slope) > 1e-3));
    assertClose(weights.flat(), losses, { atol: 1e-8, rtol: 1e-6, what: "weights" });
  });
}

Deno.test("losses of huge margins are finite, and so are their slopes", () => {
  for (const loss_type of ["sigmoid", "robust", "hinge"] as const) {
    for (const h of [-1e4, 1e4]) {
      const { loss, slope } = marginLoss(h, { loss_type, beta: 1, label_smoothing: 0 });
      assertClose([loss, slope], [h < 0 ? 1e4 : 0, h < 0 ? -1 : 0], {
        atol: 1,
        rtol: 0,
        what: loss_type,
      });
    }
  }
  const orpo = objectiveOf(makeTrainConfig({ objective: "orpo" }), 64);
  const certain = [PAIRS[0].flatMap(withPrompt)];
  const { weights, losses } = orpo.weigh(certain, [[certain[0].map(() => 0)]]);
  assert.ok([...weights.flat(), losses(new Float32Array()).loss].every(Number.isFinite));
});

Deno.test("dpo before the first step: equal rewards are half in order", () => {
  const objective = objectiveOf(makeTrainConfig({ objective: "dpo" }), 64), window = windowOf({});
  const [policy] = scoresOf(objective, window);
  const { loss, losses, figures } = objective.weigh(window, [policy, policy]).losses(
    new Float32Array(),
  );
  assertClose([loss, ...losses], [Math.LN2, Math.LN2, Math.LN2], {
    atol: 0,
    rtol: 1e-12,
    what: "loss",
  });
  assert.equal(figures.rewards_accuracies, 0.5);
  assert.equal(figures.rewards_margins, 0);
});

Deno.test("kto scores each prompt with the answer to the one before, cut where samples are", () => {
  const config = makeTrainConfig({ objective: "kto", batch_size: 3, max_length: 9 });
  const objective = objectiveOf(config, 64),
    batch = [
      sample(7, 3, "chosen", 10),
      sample(4, 2, "rejected", 30),
      sample(9, 8, "chosen", 50),
    ];
  const [beside] = objective.scoredBeside?.([batch]) ?? [];
  assert.deepEqual(beside.map(({ ids, targets }) => ({ ids: [...ids], targets })), [
    { ids: [10, 11, 12, 58], targets: [[3, 4]] },
    { ids: [30, 31, 13, 14, 15, 16], targets: [[2, 6]] },
    { ids: [50, 51, 52, 53, 54, 55, 56, 57, 32], targets: [[8, 9]] },
  ]);
});

Deno.test("kto tells nothing of a kind of answers that a window lacks", () => {
  const config = makeTrainConfig({ objective: "kto", batch_size: 2 });
  const objective = objectiveOf(config, 64),
    window = [[sample(5, 2, "chosen"), sample(6, 2, "chosen")]];
  const { loss, figures } = objective.weigh(window, scoresOf(objective, window)).losses(
    new Float32Array(),
  );
  assert.ok(Number.isFinite(loss) && Number.isFinite(figures.rewards_chosen));
  assert.ok(Number.isNaN(figures.rewards_rejected) && Number.isNaN(figures.logps_rejected));
});

Deno.test("a pair without its rejected side, and a sample that is no preference, are refused", () => {
  const objective = objectiveOf(makeTrainConfig({ objective: "simpo" }), 64);
  const chosen = sample(5, 2, "chosen");
  assert.throws(() => objective.weigh([[chosen]], [[[0]]]), /without its rejected one/);
  assert.throws(
    () => objective.weigh([[{ ...chosen, part: undefined }]], [[[0]]]),
    /part in a preference/,
  );
});

Deno.test("a prompt that orpo learns serves both of its answers in a packed row", () => {
  const window = [[...withPrompt(pair(3, 20, 2, 3))]], packing = true;
  const [shared] = new PassPlanner({ packing, share_prefixes: true }).passes(window);
  // The row before an answer predicts its first token, which is another one for each.
  assert.equal(shared.tokens, 20 + (1 + 2) + (1 + 3));
  assert.equal(shared.targets, 19 + 2 + 3);
  const [alone] = new PassPlanner({ packing, share_prefixes: false }).passes(window);
  assert.equal(alone.tokens, 20 + 22 + 23);
});
