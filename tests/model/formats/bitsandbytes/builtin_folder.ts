/** The built-in model as bitsandbytes would have stored it: NF4 with double quantisation, tokenizer and all. @module */
import { join } from "node:path";
import { openModel } from "../../../../model/checkpoint/source.ts";
import { weightShapes } from "../../../../model/families/config.ts";
import { isLinearModule } from "../../../../model/families/linear_modules.ts";
import { toFloat32 } from "../../../../model/formats/half.ts";
import {
  DYNAMIC_MAP,
  NESTED_BLOCK,
  NF4_BLOCK,
  NF4_VALUES,
} from "../../../../kernels/ops/weights/nf4_values.ts";
import { quantizeNf4 } from "../../../kernels/ops/weights/nf4_reference.ts";
import { floatTensor, type StoredTensor, tensorsBytes, textTensor } from "./stored_tensors.ts";

const bytesTensor = (bytes: Uint8Array, shape = [bytes.length]): StoredTensor => {
  return { dtype: "U8", shape, bytes };
};

/** The tensors of one matrix, by the end of their names. */
function quantized(values: Float32Array, shape: number[]): [suffix: string, StoredTensor][] {
  const { codes, nested } = quantizeNf4(values, { double: true });
  if (nested === undefined) throw new Error("scales are quantised, too");
  const state = {
    quant_type: "nf4",
    blocksize: NF4_BLOCK,
    dtype: "float16",
    shape,
    nested_blocksize: NESTED_BLOCK,
    nested_dtype: "float32",
    nested_offset: nested.offset,
  };
  return [
    ["", bytesTensor(codes, [codes.length, 1])],
    [".absmax", bytesTensor(nested.codes)],
    [".nested_absmax", floatTensor([...nested.absmax])],
    [".nested_quant_map", floatTensor([...DYNAMIC_MAP])],
    [".quant_map", floatTensor([...NF4_VALUES])],
    [".quant_state.bitsandbytes__nf4", textTensor(JSON.stringify(state))],
  ];
}

/** Makes the folder. */
export async function writeBuiltinNf4(folder: string): Promise<void> {
  const { weights, config, folder: own } = openModel("builtin");
  if (weights === undefined || own === undefined) throw new Error("the built-in model has files");
  Deno.mkdirSync(folder);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shape] of weightShapes(config)) {
    const { dtype, bytes: size } = weights.info(name), bytes = new Uint8Array(size);
    await weights.read(name, 0, bytes);
    if (isLinearModule(name.split(".").at(-2))) {
      const parts = quantized(toFloat32(bytes, dtype), shape);
      for (const [suffix, tensor] of parts) tensors.set(`${name}${suffix}`, tensor);
    } else tensors.set(name, { dtype, shape, bytes });
  }
  weights.close();
  Deno.writeFileSync(join(folder, "model.safetensors"), tensorsBytes(tensors));
  for (const { name } of Deno.readDirSync(own)) {
    if (!/^config\.json$|safetensors$/.test(name)) {
      Deno.copyFileSync(join(own, name), join(folder, name));
    }
  }
  const json = JSON.parse(Deno.readTextFileSync(join(own, "config.json")));
  json.quantization_config = { quant_method: "bitsandbytes", load_in_4bit: true };
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(json));
}
