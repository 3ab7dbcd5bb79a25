/**
 * The objective that a configuration asks for.
 *
 * @module
 */
import { ownSettings } from "./objective_keys.ts";
import type { TrainConfig } from "./schema.ts";
import { DirectPreferenceOptimization } from "../objective/dpo.ts";
import { KahnemanTverskyOptimization } from "../objective/kto.ts";
import type { Objective } from "../objective/objective.ts";
import { OddsRatioPreferenceOptimization } from "../objective/orpo.ts";
import { SupervisedFineTuning } from "../objective/sft.ts";
import { SimplePreferenceOptimization } from "../objective/simpo.ts";

/** @param context The model's limit on a sample's tokens. */
export function objectiveOf(config: TrainConfig, context: number): Objective {
  const { objective, loss_normalization, max_length } = config;
  switch (objective) {
    case "sft":
      return new SupervisedFineTuning(loss_normalization);
    case "dpo":
      return new DirectPreferenceOptimization(ownSettings(objective, config));
    case "orpo":
      return new OddsRatioPreferenceOptimization(ownSettings(objective, config));
    case "kto": {
      const settings = ownSettings(objective, config);
      return new KahnemanTverskyOptimization({
        ...settings,
        max_length: Math.min(max_length, context),
      });
    }
    case "simpo":
      return new SimplePreferenceOptimization(ownSettings(objective, config));
  }
}
