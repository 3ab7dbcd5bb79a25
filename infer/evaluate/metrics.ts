/**
 * The metrics of tasks: which there are, how they are put together, and what they need.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../../kernels/errors.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import { brief } from "../../model/files/json_file.ts";
import { AGGREGATIONS, type ItemKind } from "./aggregation.ts";
import { comparable } from "./exact_match.ts";
import type { OutputType, TaskKeys } from "./task_schema.ts";

/** A metric of a task. */
export interface Metric {
  name: string;
  /** One of {@linkcode AGGREGATIONS}. */
  aggregation: string;
  higherIsBetter: boolean;
  /** What of two answers is compared; only `exact_match` of generated text changes it. */
  comparable: (text: string) => string;
}

/** A metric as it is where a task says nothing more of it. */
interface Kind {
  items: ItemKind;
  aggregation: string;
  higherIsBetter: boolean;
}

const accuracy: Kind = { items: "number", aggregation: "mean", higherIsBetter: true };
const perByte: Kind = {
  items: "weighted",
  aggregation: "weighted_perplexity",
  higherIsBetter: false,
};

/** The metrics that there are, by output type; of those that a task gets by itself, the first so many. */
const METRICS: Readonly<Record<OutputType, { own: number; kinds: Record<string, Kind> }>> = {
  multiple_choice: {
    own: 2,
    kinds: {
      acc: accuracy,
      acc_norm: accuracy,
      acc_bytes: accuracy,
      acc_mutual_info: accuracy,
      exact_match: accuracy,
      f1: { items: "labels", aggregation: "f1", higherIsBetter: true },
      mcc: { items: "labels", aggregation: "matthews_corrcoef", higherIsBetter: true },
      brier_score: { items: "probabilities", aggregation: "brier_score", higherIsBetter: false },
    },
  },
  loglikelihood: {
    own: 2,
    kinds: {
      perplexity: { items: "number", aggregation: "perplexity", higherIsBetter: false },
      acc: accuracy,
    },
  },
  loglikelihood_rolling: {
    own: 3,
    kinds: {
      word_perplexity: perByte,
      byte_perplexity: perByte,
      bits_per_byte: { ...perByte, aggregation: "bits_per_byte" },
    },
  },
  generate_until: { own: 1, kinds: { exact_match: accuracy } },
};

const EXACT_MATCH = z.strictObject({
  regexes_to_ignore: z.union([z.array(z.string()), z.null()]).default([]),
  ignore_case: z.boolean().default(false),
  ignore_punctuation: z.boolean().default(false),
  ignore_numbers: z.boolean().default(false),
});

/** What `exact_match` compares of two generated answers. */
function comparing(settings: Record<string, unknown>, where: string): (text: string) => string {
  const read = EXACT_MATCH.safeParse(settings);
  if (!read.success) {
    throw new UserError(
      `${where} has ${
        brief(settings)
      }; expected ignore_case, ignore_punctuation and ignore_numbers as true or ` +
        "false, and regexes_to_ignore as a list of texts",
    );
  }
  const { regexes_to_ignore, ...more } = read.data;
  return comparable({ ...more, regexes_to_ignore: regexes_to_ignore ?? [] }, where);
}

function metricOf(entry: Record<string, unknown>, type: OutputType, where: string): Metric {
  const { metric: name, aggregation, higher_is_better, hf_evaluate: _, ...more } = entry;
  const { kinds } = METRICS[type], names = Object.keys(kinds);
  if (typeof name !== "string" || !Object.hasOwn(kinds, name)) {
    const near = typeof name === "string" ? didYouMean(name, names) : "";
    throw new UserError(
      `${where}: metric ${brief(name)} is not one of output_type ${type}; expected ${
        names.join(", ")
      }${near}`,
    );
  }
  const of = `${where}: metric ${name}`, kind = kinds[name];
  const how = aggregation ?? kind.aggregation;
  if (typeof how !== "string" || AGGREGATIONS[how]?.takes !== kind.items) {
    const fitting = Object.keys(AGGREGATIONS).filter((key) =>
      AGGREGATIONS[key].takes === kind.items
    );
    throw new UserError(
      `${of}: aggregation is ${brief(how)}; expected ${fitting.join(", ")}`,
    );
  }
  if (higher_is_better !== undefined && typeof higher_is_better !== "boolean") {
    throw new UserError(
      `${of}: higher_is_better is ${brief(higher_is_better)}; expected true or false`,
    );
  }
  const generated = type === "generate_until";
  // How groups weigh their tasks stands in the groups; lm-evaluation-harness passes over it here.
  const { weight_by_size: __, ...settings } = more;
  if (!generated && Object.keys(settings).length > 0) {
    throw new UserError(`${of} has ${brief(settings)}, of which it knows nothing`);
  }
  return {
    name,
    aggregation: how,
    higherIsBetter: higher_is_better ?? kind.higherIsBetter,
    comparable: generated ? comparing(more, of) : (text) => text,
  };
}

/**
 * The metrics of a task: those of its list, or those that its output type has by itself.
 *
 * @throws {UserError} for one that there is not, or that is put together wrongly.
 */
export function metricsOf({ metric_list, output_type }: TaskKeys, where: string): Metric[] {
  const { own, kinds } = METRICS[output_type];
  const list = metric_list ?? Object.keys(kinds).slice(0, own).map((metric) => ({ metric }));
  if (list.length === 0) throw new UserError(`${where}: metric_list is empty; expected a metric`);
  return list.map((entry) => metricOf(entry, output_type, where));
}
