/**
 * Keys of `config.json` that change the computation: those that a family doesn't read are refused by name.
 *
 * @module
 */
import { type Activation, ACTIVATIONS } from "../../kernels/ops/activation/swiglu.ts";
import type { Fields } from "../files/json_fields.ts";
import { brief } from "../files/json_file.ts";
import { readQuantization } from "./quantization_config.ts";

/**
 * What `config.json` may say that changes the computation and that a family has to read itself: each key with the
 * values that leave a Llama as it is. An absent key and `null` always do.
 */
const PLAIN_VALUES: Record<string, readonly unknown[]> = {
  attention_dropout: [0],
  residual_dropout: [0],
  resid_pdrop: [0],
  embd_pdrop: [0],
  attention_out_bias: [false],
  lm_head_bias: [false],
  partial_rotary_factor: [1],
  rope_interleaved: [false],
  auto_map: [],
  is_encoder_decoder: [false],
  add_cross_attention: [false],
  final_logit_softcapping: [],
  attn_logit_softcapping: [],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  logits_scaling: [1],
  query_pre_attn_scalar: [],
  use_bidirectional_attention: [false],
  no_rope_layers: [],
  clip_qkv: [],
  per_layer_config: [],
};

/**
 * Refuses what a family's computation would have to change for.
 *
 * @param family `architecture`: its class in `transformers`; `reads`: keys that it reads itself.
 * @throws UserError that names the field.
 */
export function refuseOthers(
  fields: Fields,
  { architecture, reads }: { architecture: string; reads: readonly string[] },
): void {
  const { json } = fields;
  if (fields.has("architectures")) {
    const names = json.architectures;
    if (!Array.isArray(names) || !names.includes(architecture)) {
      fields.fail("architectures", `["${architecture}"]`);
    }
  }
  for (const [field, plain] of Object.entries(PLAIN_VALUES)) {
    if (reads.includes(field)) continue;
    if (!fields.has(field) || plain.includes(json[field])) continue;
    fields.fail(field, `${plain.length > 0 ? brief(plain[0]) : "none"}: nothing else is supported`);
  }
  // What it says is read with the weights (model/formats/huggingface.ts).
  readQuantization(fields);
}

/** The activation, by its name in `transformers`. */
export function readActivation(fields: Fields, field: string, absent: Activation): Activation {
  if (!fields.has(field)) return absent;
  const name = fields.json[field], known = Object.keys(ACTIVATIONS) as Activation[];
  // Two names of one function.
  const found = known.find((activation) => activation === (name === "swish" ? "silu" : name));
  const names = known.map((activation) => `"${activation}"`).join(" or ");
  return found ?? fields.fail(field, `${names}: nothing else is supported`);
}
