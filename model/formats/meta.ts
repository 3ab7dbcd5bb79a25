/**
 * Models in the layout of Meta's releases: `params.json` with `consolidated.00.pth`, or several such
 * shards that hold a part of every tensor each, as the model was spread over GPUs. Read as if they were a
 * Hugging Face folder, with its names and its order of rows.
 *
 * Layers and how they are split: https://github.com/meta-llama/llama, `llama/model.py`.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { type ModelConfig, weightShapes, withLayers } from "../families/config.ts";
import { otherWeights } from "./folder_contents.ts";
import { JoinedMatrix, type Layout, Scratch } from "./joined.ts";
import { metaConfig, type MetaParams, readParams } from "./meta_params.ts";
import { openTorchFile, type PthFile } from "./pth.ts";
import { brief } from "../files/json_file.ts";
import {
  bytesPerElement,
  type FileDtype,
  sameShape,
  type StoredWeight,
  type WeightSource,
  weightSource,
} from "./weights.ts";
import { exists, namesIn } from "../files/whole_file.ts";

/** How a tensor is split over the shards; norms are whole in each. */
type Split = "rows" | "columns" | "copies";

/** A layer's tensors in a block: Hugging Face's name, Meta's, and how it is split. */
const BLOCK: Record<string, { meta: string; split: Split }> = {
  "input_layernorm": { meta: "attention_norm", split: "copies" },
  "self_attn.q_proj": { meta: "attention.wq", split: "rows" },
  "self_attn.k_proj": { meta: "attention.wk", split: "rows" },
  "self_attn.v_proj": { meta: "attention.wv", split: "rows" },
  "self_attn.o_proj": { meta: "attention.wo", split: "columns" },
  "post_attention_layernorm": { meta: "ffn_norm", split: "copies" },
  "mlp.gate_proj": { meta: "feed_forward.w1", split: "rows" },
  "mlp.up_proj": { meta: "feed_forward.w3", split: "rows" },
  "mlp.down_proj": { meta: "feed_forward.w2", split: "columns" },
};

const EMBEDDING = "tok_embeddings.weight", GATE = "layers.0.feed_forward.w1.weight";
const OUTSIDE_BLOCKS = [EMBEDDING, "norm.weight", "output.weight"];
const IN_BLOCKS = Object.values(BLOCK).map(({ meta }) => `${meta}.weight`);

/** Whether a folder is in Meta's layout. (Mistral's Hugging Face folders hold a params.json too.) */
export function isMetaFolder(folder: string): boolean {
  return exists(join(folder, "params.json")) && !exists(join(folder, "config.json"));
}

/** Refuses Mistral's own layout, which has a params.json too. */
function refuseOtherLayouts(folder: string): void {
  if (!exists(folder) || exists(join(folder, "consolidated.00.pth"))) return;
  const other = otherWeights(folder);
  if (other !== undefined && !/^holds consolidated\.\d/.test(other)) {
    throw new UserError(`${folder}: ${other}`);
  }
}

/** The shards in order. */
function shardPaths(folder: string): string[] {
  const shards = namesIn(folder).filter((name) => /^consolidated\.\d\d\.pth$/.test(name));
  const expected = (index: number) => `consolidated.${String(index).padStart(2, "0")}.pth`;
  const gap = shards.findIndex((name, i) => name !== expected(i));
  if (shards.length === 0 || gap >= 0) {
    throw new UserError(`${folder}: ${expected(Math.max(gap, 0))} is missing`);
  }
  return shards.map((name) => join(folder, name));
}

/** A model's tensors in Meta's names, in every shard. */
class Shards {
  constructor(readonly params: MetaParams, readonly files: readonly PthFile[]) {}

  /** A message about a tensor of one file. */
  fail(file: PthFile, name: string, problem: string): never {
    throw new UserError(`${file.path}: tensor ${brief(name)} ${problem}`);
  }

  failShape(file: PthFile, name: string, expected: string): never {
    const { shape } = file.weight(name), { length } = this.files;
    const each = length === 1 ? "" : ` in each of ${length} shards`;
    this.fail(file, name, `has shape ${brief(shape)}, but params.json needs ${expected}${each}`);
  }

  /** Heads are never cut in two. */
  checkHeads(): void {
    const { file, n_heads, n_kv_heads } = this.params, { length } = this.files;
    for (const [field, heads] of Object.entries({ n_heads, n_kv_heads })) {
      if (heads % length === 0) continue;
      throw new UserError(`${file}: ${field} is ${heads}, expected a multiple of ${length} shards`);
    }
  }

  /**
   * What only the tensors say: the vocabulary, how its embedding is split (by columns up to Llama 2, by
   * rows in Llama 3), and the width inside the SwiGLU.
   */
  sizes(): { vocab_size: number; intermediate_size: number; embedding: Split } {
    const { dim, vocab_size: given } = this.params, first = this.files[0], { length } = this.files;
    const [rows, columns, ...more] = first.weight(EMBEDDING).shape;
    const embedding = columns === dim ? "rows" : "columns";
    const vocab_size = embedding === "rows" ? rows * length : rows;
    const fits = columns * (embedding === "rows" ? 1 : length) === dim && more.length === 0;
    if (!fits || given !== undefined && given !== vocab_size) {
      const vocabulary = given === undefined ? "vocab_size" : String(given);
      const whole = `[${vocabulary},${dim}]`;
      this.failShape(first, EMBEDDING, length === 1 ? whole : `an equal part of ${whole}`);
    }
    const { shape } = first.weight(GATE);
    if (shape.length !== 2) this.failShape(first, GATE, `two dimensions, the second ${dim}`);
    return { vocab_size, intermediate_size: shape[0] * length, embedding };
  }

  /** Refuses tensors that are no part of a Llama. RoPE's frequencies follow from params.json. */
  checkNames(): void {
    for (const file of this.files) {
      for (const name of file.names()) {
        const [, layer, rest] = /^layers\.(0|[1-9]\d{0,3})\.(.*)$/.exec(name) ?? [];
        const known = layer === undefined
          ? OUTSIDE_BLOCKS.includes(name)
          : Number(layer) < this.params.n_layers && IN_BLOCKS.includes(rest);
        if (known || name === "rope.freqs" || name.endsWith(".rope.freqs")) continue;
        this.fail(file, name, `is no part of a Llama of ${this.params.n_layers} layers`);
      }
    }
  }

  /** A tensor in all shards, checked against the whole's shape. */
  join(
    meta: string,
    shape: readonly number[],
    split: Split,
    headRows: number,
    scratch: Scratch,
  ): { dtype: FileDtype; matrix: JoinedMatrix } {
    const { length } = this.files, axis = split === "columns" ? 1 : 0;
    const part = shape.map((size, i) => split === "copies" || i !== axis ? size : size / length);
    const places = this.files.map((file) => {
      const place = file.weight(meta);
      if (!sameShape(place.shape, part)) {
        const whole = part.every(Number.isInteger)
          ? brief(part)
          : `an equal part of ${brief(shape)}`;
        this.failShape(file, meta, whole);
      }
      return place;
    });
    const [{ dtype }] = places;
    places.forEach((place, i) => {
      if (place.dtype === dtype) return;
      const first = `${dtype} in ${this.files[0].path}`;
      this.fail(this.files[i], meta, `is ${place.dtype}, but ${first}`);
    });
    const [rows, columns = 1] = part;
    const layout: Layout = {
      rows,
      rowBytes: columns * bytesPerElement(dtype),
      join: split === "columns" ? "columns" : "rows",
      headRows,
    };
    const parts = this.files.map((file) => {
      const read = (at: number, target: Uint8Array) => file.read(meta, at, target);
      return { file: { read }, position: 0 };
    });
    if (split === "copies") parts.length = 1;
    return { dtype, matrix: new JoinedMatrix(parts, layout, scratch) };
  }

  close(): void {
    for (const file of this.files) file.close();
  }
}

/** Meta's name of a weight, how it is split, and the rows of a head where they are permuted. */
function metaName(
  name: string,
  config: ModelConfig,
  embedding: Split,
): { meta: string; split: Split; headRows: number } {
  const headRows = 0;
  if (name === "model.embed_tokens.weight") return { meta: EMBEDDING, split: embedding, headRows };
  if (name === "model.norm.weight") return { meta: "norm.weight", split: "copies", headRows };
  if (name === "lm_head.weight") return { meta: "output.weight", split: "rows", headRows };
  // model.layers.LAYER.MODULE.weight, where MODULE is of two words.
  const words = name.split("."), layer = words[2], module = words.slice(3, -1).join(".");
  const { meta, split } = BLOCK[module], rotated = /[qk]_proj$/.test(module);
  return {
    meta: `layers.${layer}.${meta}.weight`,
    split,
    headRows: rotated ? config.head_dim : 0,
  };
}

/**
 * Opens a model in Meta's layout. Only descriptions of tensors are read here, by an unpickler that
 * executes nothing (see model/formats/pickle.ts); every weight's presence, shape and dtype are checked in every
 * shard. `rope.freqs` is ignored; any other tensor that is no part of a Llama is not.
 *
 * The vocabulary's size and the width of the SwiGLU come from the tensors. `max_position_embeddings`,
 * which the layout doesn't say, is chosen as model/formats/meta_params.ts says.
 *
 * @param folder Holds `params.json` and `consolidated.00.pth`, `consolidated.01.pth` ...
 * @param options `layers`: the model cut after its first blocks.
 * @returns Weights with Hugging Face's names, row order and shapes.
 * @throws UserError that names the file, and the field or the tensor.
 */
export function openMeta(folder: string, options: { layers?: number } = {}): WeightSource {
  refuseOtherLayouts(folder);
  const params = readParams(join(folder, "params.json"));
  const paths = shardPaths(folder), open: PthFile[] = [];
  const shards = new Shards(params, open);
  const weights = new Map<string, StoredWeight>();
  let config: ModelConfig;
  try {
    for (const path of paths) open.push(openTorchFile(path));
    shards.checkHeads();
    const { embedding, ...sizes } = shards.sizes();
    config = metaConfig(params, sizes);
    if (options.layers !== undefined) config = withLayers(config, options.layers, folder);
    const scratch = new Scratch();
    for (const [name, shape] of weightShapes(config)) {
      const { meta, split, headRows } = metaName(name, config, embedding);
      const { dtype, matrix } = shards.join(meta, shape, split, headRows, scratch);
      const read = (begin: number, target: Uint8Array) => matrix.read(begin, target);
      weights.set(name, { info: { dtype, shape, bytes: matrix.bytes }, read });
    }
    shards.checkNames();
  } catch (error) {
    shards.close();
    throw error;
  }
  return weightSource(folder, { config, weights, close: () => shards.close() });
}
