/**
 * Damaged folders with weights that bitsandbytes quantised. Each ends in a UserError that names the file, or in a valid
 * load of every weight, as values and as kernels have it.
 */
import assert from "node:assert/strict";
import { DYNAMIC_MAP, NF4_VALUES } from "../../kernels/ops/weights/nf4_values.ts";
import { configJson, type ModelConfig, weightShapes } from "../../model/families/config.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { quantizeNf4 } from "../kernels/ops/weights/nf4_reference.ts";
import {
  floatTensor,
  type StoredTensor,
  tensorsBytes,
  textTensor,
} from "../model/formats/bitsandbytes/stored_tensors.ts";
import { openHearing } from "../model/formats/hearing.ts";
import { ascii, concat, little } from "../model/formats/pth_writer.ts";
import { fuzz, mutateBytes, mutateJson, type Picker } from "./mutate.ts";

const CONFIG: ModelConfig = {
  ...presetConfig("tiny"),
  vocab_size: 12,
  hidden_size: 24,
  intermediate_size: 12,
  num_hidden_layers: 1,
  head_dim: 8,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * i));

/** The tensors of a matrix of 4 bits. */
function fourBit(name: string, shape: number[], double: boolean): [string, StoredTensor][] {
  const { codes, absmax, nested } = quantizeNf4(numbers(shape[0] * shape[1]), { double });
  const state: Record<string, unknown> = {
    quant_type: "nf4",
    blocksize: 64,
    dtype: "float16",
    shape,
  };
  if (nested !== undefined) {
    Object.assign(state, { nested_blocksize: 256, nested_offset: nested.offset });
  }
  const own = (suffix: string, tensor: StoredTensor): [string, StoredTensor] => {
    return [`${name}.${suffix}`, tensor];
  };
  return [
    [name, { dtype: "U8", shape: [codes.length, 1], bytes: codes }],
    own("quant_map", floatTensor([...NF4_VALUES])),
    own("quant_state.bitsandbytes__nf4", textTensor(JSON.stringify(state))),
    ...nested === undefined ? [own("absmax", floatTensor([...absmax]))] : [
      own("absmax", { dtype: "U8", shape: [nested.codes.length], bytes: nested.codes }),
      own("nested_absmax", floatTensor([...nested.absmax])),
      own("nested_quant_map", floatTensor([...DYNAMIC_MAP])),
    ],
  ];
}

/** The tensors of a matrix of 8 bits. */
function eightBit(name: string, shape: number[]): [string, StoredTensor][] {
  const bytes = Uint8Array.from({ length: shape[0] * shape[1] }, (_, i) => i * 37);
  const module = name.replace(/\.weight$/, "");
  return [
    [name, { dtype: "I8", shape, bytes }],
    [`${module}.SCB`, floatTensor([...numbers(shape[0])])],
    [`${module}.weight_format`, { dtype: "U8", shape: [], bytes: Uint8Array.of(0) }],
  ];
}

/** A model without a fault. */
interface Folder {
  config: string;
  tensors: Map<string, StoredTensor>;
}

const KINDS = {
  "4 bits": (name: string, shape: number[]) => fourBit(name, shape, false),
  "4 bits with double quantisation": (name: string, shape: number[]) => fourBit(name, shape, true),
  "8 bits": eightBit,
};

function folderOf(kind: keyof typeof KINDS): Folder {
  const bits = kind === "8 bits" ? { load_in_8bit: true } : { load_in_4bit: true };
  const quantization_config = { quant_method: "bitsandbytes", ...bits, llm_int8_threshold: 6 };
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shape] of weightShapes(CONFIG)) {
    const own: [string, StoredTensor][] = name.includes("proj")
      ? KINDS[kind](name, shape)
      : [[name, floatTensor([...numbers(shape.reduce((a, b) => a * b, 1))], shape)]];
    for (const [name, tensor] of own) tensors.set(name, tensor);
  }
  const config = JSON.stringify({ ...configJson(CONFIG), quantization_config });
  return { config, tensors };
}

/** Reads every weight in two ways, by parts: its values take more memory than its codes. */
async function loadModel(folder: string): Promise<void> {
  const { source } = openHearing(folder), part = new Uint8Array(640);
  const readAll = async (
    bytes: number,
    read: (begin: number, target: Uint8Array) => Promise<void>,
  ) => {
    for (let begin = 0; begin < bytes; begin += part.length) {
      await read(begin, part.subarray(0, bytes - begin));
    }
  };
  try {
    for (const name of weightShapes(source.config).keys()) {
      const { bytes } = source.info(name);
      await readAll(bytes, (begin, target) => source.read(name, begin, target));
      for (const plane of source.quantized(name)?.planes ?? []) {
        await readAll(plane.bytes, (begin, target) => plane.read(begin, target));
      }
    }
  } finally {
    source.close();
  }
}

/** The header of a safetensors file changed, whose length is told truly. */
function damagedHeader(file: Uint8Array, pick: Picker): Uint8Array {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = ascii(mutateJson(new TextDecoder().decode(file.subarray(8, 8 + length)), pick));
  return concat(little(header.length, 8), header, file.subarray(8 + length));
}

/** One tensor with other bytes, as many as its shape needs or, where it is text, other text. */
function damagedTensor(tensors: Folder["tensors"], pick: Picker): Uint8Array {
  const changed = new Map(tensors), names = [...tensors.keys()];
  const text = names.filter((name) => name.includes("quant_state"));
  const isText = text.length > 0 && pick(2) === 0, among = isText ? text : names;
  const name = among[pick(among.length)], tensor = tensors.get(name) ?? assert.fail();
  if (isText) {
    changed.set(name, textTensor(mutateJson(new TextDecoder().decode(tensor.bytes), pick)));
  } else {
    const bytes = mutateBytes(tensor.bytes, pick).slice(0, tensor.bytes.length);
    changed.set(name, { ...tensor, bytes: concat(bytes, tensor.bytes.subarray(bytes.length)) });
  }
  return tensorsBytes(changed);
}

for (const [i, kind] of (Object.keys(KINDS) as (keyof typeof KINDS)[]).entries()) {
  const { config, tensors } = folderOf(kind), file = tensorsBytes(tensors);
  const files = (config: string, file: Uint8Array) => ({
    "config.json": ascii(config),
    "model.safetensors": file,
  });

  Deno.test(`a folder of ${kind} is whole before it is damaged`, async () => {
    const whole = { seed: 0, rounds: 1, damage: () => files(config, file), load: loadModel };
    assert.equal((await fuzz({ ...whole, total: 6 })).loaded, 1);
  });

  Deno.test(`1,700 damaged folders of ${kind} load whole or are refused in a sentence`, async () => {
    const { loaded, problems } = await fuzz({
      seed: 20261201 + i,
      rounds: 1700,
      damage(pick) {
        switch (pick(5)) {
          case 0:
            return files(mutateJson(config, pick), file);
          case 1:
            return files(config, mutateBytes(file, pick));
          case 2:
            return files(config, damagedHeader(file, pick));
          default:
            return files(config, damagedTensor(tensors, pick));
        }
      },
      load: loadModel,
      total: 6,
    });
    // Some must load and most must not, in many ways, or the damage tests too little.
    assert.ok(loaded > 100 && loaded < 1300, `${loaded} loaded`);
    assert.ok(problems.size > 50, `${problems.size}: ${[...problems].join("\n")}`);
  });
}
