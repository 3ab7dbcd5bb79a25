/** Weights rewritten: copied byte for byte, or converted, in pieces that nobody sees. */
import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { type ModelConfig, weightShapes } from "../../../model/families/config.ts";
import { toFloat32 } from "../../../model/formats/half.ts";
import { rewrittenTensors } from "../../../model/formats/rewrite.ts";
import type { TensorToWrite } from "../../../model/formats/write_safetensors.ts";
import {
  bytesPerElement,
  type FileDtype,
  type WeightSource,
} from "../../../model/formats/weights.ts";
import { encode, memoryWeights, smallConfig } from "../checkpoint/made_weights.ts";

const DTYPES = ["F32", "F16", "BF16"] as const;
const EMBEDDING = "model.embed_tokens.weight", HEAD = "lm_head.weight";

/** Numbers that no dtype holds exactly, and none too large for one. */
function values(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i + 1) * 2 ** (i % 9 - 4));
}

/** A source with these values in every tensor. */
function source(config: ModelConfig, dtype: FileDtype): WeightSource {
  const weights = Array.from(weightShapes(config), ([name, shape]) => {
    const bytes = encode(values(shape.reduce((a, b) => a * b, 1)), dtype);
    return [name, { dtype, bytes }] as const;
  });
  return memoryWeights(config, new Map(weights));
}

/** All bytes of a tensor; copied, as the writer is done with a piece when it asks for the next. */
async function bytesOf({ data }: TensorToWrite): Promise<{ bytes: Uint8Array; pieces: number }> {
  const pieces: Uint8Array[] = [];
  for await (const piece of data) pieces.push(piece.slice());
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { bytes, pieces: pieces.length };
}

function assertBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] !== expected[i]) assert.fail(`${what}: byte ${i} is ${actual[i]}`);
  }
}

Deno.test("rewrite: tensors larger than a piece are copied byte for byte, with progress", async () => {
  // 4.3 million elements, the last rows of an odd number.
  const config = smallConfig({ vocab_size: 67_003, hidden_size: 64 });
  const read = source(config, "F16");
  const progress: [number, number][] = [];
  const tensors = rewrittenTensors(read, { progress: (...state) => progress.push(state) });
  assert.deepEqual(tensors.map(({ name }) => name), [...weightShapes(config).keys()]);
  let total = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    const info = read.info(name);
    assert.deepEqual({ dtype, shape }, { dtype: info.dtype, shape: info.shape });
    const { bytes, pieces } = await bytesOf(tensor);
    assert.equal(pieces, [EMBEDDING, HEAD].includes(name) ? 2 : 1, name);
    const expected = new Uint8Array(info.bytes);
    await read.read(name, 0, expected);
    assertBytes(bytes, expected, name);
    total += info.bytes;
  }
  assert.deepEqual(progress.at(-1), [total, total]);
  assert.ok(progress.every(([done], i) => done > (progress[i - 1]?.[0] ?? 0)));
});

Deno.test("rewrite: every dtype becomes every other, rounded to nearest", async () => {
  const config = smallConfig({ tie_word_embeddings: true });
  for (const from of DTYPES) {
    for (const dtype of DTYPES) {
      for (const tensor of rewrittenTensors(source(config, from), { dtype })) {
        assert.equal(tensor.dtype, dtype);
        const { bytes } = await bytesOf(tensor);
        const held = toFloat32(encode(values(bytes.length / bytesPerElement(dtype)), from), from);
        assertBytes(bytes, encode(held, dtype), `${from} to ${dtype}: ${tensor.name}`);
      }
    }
  }
});

Deno.test("rewrite: a value that the dtype can't hold is refused, and so is one that is no finite number", async () => {
  const config = smallConfig({});
  const of = (dtype: FileDtype, ...numbers: number[]) => {
    const weights = Array.from(weightShapes(config), ([name, shape]) => {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      if (name === HEAD) data.set(numbers);
      return [name, { dtype, bytes: encode(data, dtype) }] as const;
    });
    return memoryWeights(config, new Map(weights));
  };
  const head = (read: WeightSource, dtype: FileDtype) =>
    bytesOf(rewrittenTensors(read, { dtype }).find(({ name }) => name === HEAD)!);
  const refused = (message: string) => (error: unknown) => {
    assert.ok(error instanceof UserError);
    assert.equal(error.message, message);
    return true;
  };
  await assert.rejects(
    head(of("BF16", 65280, -65536, 1e30), "F16"),
    refused(`tensor "${HEAD}" has 2 values beyond what f16 holds; expected --dtype bf16 or f32`),
  );
  await assert.rejects(
    head(of("F32", 3.4e38), "BF16"),
    refused(`tensor "${HEAD}" has a value beyond what bf16 holds; expected --dtype f32`),
  );
  const { bytes } = await head(of("F32", 65519), "F16");
  assert.deepEqual([...toFloat32(bytes.subarray(0, 2), "F16")], [65504]);
  for (const value of [-Infinity, NaN]) {
    await assert.rejects(head(of("F32", 1, value), "F16"), (error: unknown) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /^tensor "lm_head.weight" has .*; expected finite numbers/);
      return true;
    });
  }
});

Deno.test("rewrite: a read that fails is reported, and not at all where nobody waits for it", async () => {
  const config = smallConfig({ vocab_size: 67_003, hidden_size: 64 });
  const bytes = new Uint8Array(67_003 * 64 * 2);
  const weights = new Map(
    Array.from(weightShapes(config).keys(), (name) => [name, { dtype: "F16" as const, bytes }]),
  );
  const read = memoryWeights(config, weights, (_, begin) => begin > 0);
  const embedding = () => rewrittenTensors(read)[0];
  await assert.rejects(bytesOf(embedding()), /embed_tokens\.weight can't be read from byte \d+ on/);
  for await (const piece of embedding().data) {
    assert.ok(piece.length > 0);
    break; // The second piece is being read now, and fails after this.
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
});
