/**
 * `quantization_config` of Hugging Face's `config.json`: bitsandbytes' is read, every other method is refused by name.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { Fields } from "../files/json_fields.ts";
import { brief, isObject } from "../files/json_file.ts";

/** How bitsandbytes quantised a model's linear layers. */
export interface Quantization {
  /** 4: NF4 or FP4 in blocks. 8: LLM.int8(). */
  bits: 4 | 8;
  /** LLM.int8(): activations from this magnitude on are outliers, which bitsandbytes computes with apart. */
  threshold: number;
}

/** Other values of `quant_method`, and what they stand for. */
const METHODS: Readonly<Record<string, string>> = {
  aqlm: "AQLM",
  "auto-round": "AutoRound",
  awq: "AWQ",
  bitnet: "BitNet",
  "compressed-tensors": "compressed tensors of vLLM's llm-compressor",
  eetq: "EETQ",
  fbgemm_fp8: "FP8 of FBGEMM",
  fp8: "FP8",
  fp_quant: "FP-Quant",
  gptq: "GPTQ",
  higgs: "HIGGS",
  hqq: "HQQ",
  modelopt: "NVIDIA's ModelOpt",
  mxfp4: "MXFP4",
  mxfp8: "MXFP8",
  nvfp4: "NVFP4",
  quanto: "Quanto",
  quark: "AMD's Quark",
  sinq: "SINQ",
  spqr: "SpQR",
  torchao: "torchao",
  vptq: "VPTQ",
};

/** bitsandbytes' default (Dettmers et al. 2022, section 3.2). */
const DEFAULT_THRESHOLD = 6;

/** What to take instead of weights that are not read. */
const INSTEAD =
  "bitsandbytes' 4 or 8 bits, a GGUF file, or the unquantised model that this one was made from";

function notRead(file: string, says: string, expected: string): UserError {
  return new UserError(`${file}: quantization_config is ${says}, expected ${expected}`);
}

/**
 * Reads `quantization_config`.
 *
 * @returns Undefined where the model has none.
 * @throws UserError that names the method, or the field.
 */
export function readQuantization(fields: Fields): Quantization | undefined {
  const { json, file } = fields;
  // Before quantization_config took it over, llm-compressor wrote a key of its own.
  if (fields.has("compression_config")) fields.fail("compression_config", `none, but ${INSTEAD}`);
  if (!fields.has("quantization_config")) return undefined;
  const given = json.quantization_config;
  if (!isObject(given)) return fields.fail("quantization_config", "an object");
  // transformers before 4.31 wrote no method, as there was but one.
  const own = new Fields(given, `${file}: quantization_config`);
  const hasBits = own.has("load_in_4bit") || own.has("load_in_8bit");
  const method = given.quant_method ?? (hasBits ? "bitsandbytes" : undefined);
  if (method !== "bitsandbytes") {
    const known = typeof method === "string" && Object.hasOwn(METHODS, method);
    const says = known
      ? `of quant_method ${brief(method)} (${METHODS[method]})`
      : `of quant_method ${brief(method)}`;
    throw notRead(file, says, INSTEAD);
  }
  const four = own.boolean("load_in_4bit", false), eight = own.boolean("load_in_8bit", false);
  if (four === eight) {
    const both = `load_in_4bit ${four} and load_in_8bit ${eight}`;
    throw notRead(file, `bitsandbytes' with ${both}`, "one of the two to be true");
  }
  const threshold = own.has("llm_int8_threshold")
    ? own.number("llm_int8_threshold", (value) => value >= 0, "a number from 0 on")
    : DEFAULT_THRESHOLD;
  return { bits: four ? 4 : 8, threshold };
}
