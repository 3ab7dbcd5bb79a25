/** Weights made up for tests of what reads them: in host memory, or in files of zeros. */
import { join } from "node:path";
import type { BaseConfig } from "../../../model/families/base_config.ts";
import { configJson, type ModelConfig, weightShapes } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { fromFloat32 } from "../../../model/formats/half.ts";
import { tensorBytes } from "../../../model/formats/write_safetensors.ts";
import {
  bytesPerElement,
  type FileDtype,
  type WeightSource,
} from "../../../model/formats/weights.ts";

/** A Llama of one block with these sizes; heads of 8. */
export function smallConfig(sizes: Partial<Omit<BaseConfig, "model_type">>): ModelConfig {
  return {
    ...presetConfig("tiny"),
    vocab_size: 12,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    ...sizes,
  };
}

/** Numbers of a weight file as bytes. */
export function encode(values: Float32Array, dtype: FileDtype): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(values.length * bytesPerElement(dtype));
  fromFloat32(values, dtype, bytes);
  return bytes;
}

/**
 * A source of these weights, each of its dtype. As with files, reads end later than they begin, and
 * may fail.
 *
 * @param fails Whether a read of these bytes fails.
 */
export function memoryWeights(
  config: ModelConfig,
  weights: ReadonlyMap<string, { dtype: FileDtype; bytes: Uint8Array }>,
  fails: (name: string, begin: number) => boolean = () => false,
): WeightSource {
  const shapes = weightShapes(config);
  return {
    config,
    info(name) {
      const { dtype, bytes } = weights.get(name)!;
      return { dtype, shape: [...shapes.get(name)!], bytes: bytes.length };
    },
    async read(name, begin, target) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (fails(name, begin)) throw new Error(`${name} can't be read from byte ${begin} on`);
      target.set(weights.get(name)!.bytes.subarray(begin, begin + target.length));
    },
    quantized: () => undefined,
    close() {},
  };
}

/** Makes a model folder whose weights are all zero and, being a hole in a file, take no room. */
export function writeZeros(folder: string, config: ModelConfig, dtype: FileDtype): void {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of weightShapes(config)) {
    const begin = end;
    end += tensorBytes({ dtype, shape });
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  Deno.mkdirSync(folder);
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(configJson(config)));
  const file = join(folder, "model.safetensors");
  Deno.writeFileSync(file, new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer));
  Deno.writeFileSync(file, text, { append: true });
  Deno.truncateSync(file, 8 + text.length + end);
}
