/**
 * The objective that a configuration asks for.
 *
 * @module
 */
import { ownSettings } from "../config/objective_keys.ts";
import type { TrainConfig } from "../config/schema.ts";
import { DirectPreferenceOptimization } from "./dpo.ts";
import { KahnemanTverskyOptimization } from "./kto.ts";
import type { Objective } from "./objective.ts";
import { OddsRatioPreferenceOptimization } from "./orpo.ts";
import { SupervisedFineTuning } from "./sft.ts";
import { SimplePreferenceOptimization } from "./simpo.ts";

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
