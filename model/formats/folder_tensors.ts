/**
 * The tensors of a model folder, which lie in one file, or in several with an index that says which is where.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { brief, isObject, readJson } from "../files/json_file.ts";
import { exists } from "../files/whole_file.ts";
import { otherWeights } from "./folder_contents.ts";
import { openTorchFile } from "./pth.ts";
import { openSafetensors } from "./safetensors.ts";
import type { TensorEntry, TensorFile } from "./tensor_file.ts";

/** Weights as they lie in a folder: in one file, or in several with an index. */
interface Layout {
  single: string;
  index: string;
  /** How the files' names end that an index may name. */
  extension: ".safetensors" | ".bin";
  open: (path: string) => TensorFile;
}

/** In the order of preference that `transformers` has. */
const LAYOUTS: readonly Layout[] = [
  {
    single: "model.safetensors",
    index: "model.safetensors.index.json",
    extension: ".safetensors",
    open: openSafetensors,
  },
  {
    single: "pytorch_model.bin",
    index: "pytorch_model.bin.index.json",
    extension: ".bin",
    open: openTorchFile,
  },
];

/** Which file of the folder holds which tensor, as the index says. */
function readIndex(path: string, extension: string): Map<string, string> {
  const index = readJson(path);
  if (!isObject(index) || !isObject(index.weight_map)) {
    throw new UserError(`${path}: expected an object with a "weight_map" of tensors and files`);
  }
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(index.weight_map)) {
    // A shard lies in the model's own folder; an index must not make us read anything else. File systems take
    // names of 255 bytes at most.
    const inFolder = typeof file === "string" && /^[^/\\\0:]{1,200}$/.test(file);
    if (!inFolder || !file.endsWith(extension) || file === extension) {
      throw new UserError(
        `${path}: tensor ${brief(tensor)} is said to be in ${brief(file)}, ` +
          `expected the name of a ${extension} file beside the index`,
      );
    }
    files.set(tensor, file);
  }
  return files;
}

/** A tensor of a folder. */
export interface FoundTensor {
  readonly name: string;
  readonly file: TensorFile;
  readonly entry: Readonly<TensorEntry>;
}

/** The folder's tensors; files are opened when a tensor of theirs is asked for. */
export class FolderTensors {
  /** Files that are open. */
  readonly open: TensorFile[] = [];
  readonly #folder: string;
  readonly #layout: Layout;
  /** What the index says; undefined where all is in one file. */
  readonly #index: Map<string, string> | undefined;
  readonly #shards = new Map<string, TensorFile>();

  /** @throws UserError where the folder has no weights, or an index that can't be used. */
  constructor(folder: string) {
    const layout = LAYOUTS.find(({ single, index }) => {
      return exists(join(folder, single)) || exists(join(folder, index));
    });
    if (layout === undefined) {
      const expected = LAYOUTS.flatMap(({ single, index }) => [single, index]).join(", ");
      throw new UserError(`${folder}: ${otherWeights(folder) ?? `expected one of ${expected}`}`);
    }
    this.#folder = folder;
    this.#layout = layout;
    if (exists(join(folder, layout.single))) return;
    this.#index = readIndex(join(folder, layout.index), layout.extension);
  }

  /** @throws UserError where the tensor's file can't be read, or lacks it though the index names it. */
  find(name: string): FoundTensor | undefined {
    const shard = this.#index === undefined ? this.#layout.single : this.#index.get(name);
    if (shard === undefined) return undefined;
    const file = this.#shards.get(shard) ?? this.#openShard(shard);
    const entry = file.tensors.get(name);
    if (entry !== undefined) return { name, file, entry };
    if (this.#index === undefined) return undefined;
    throw new UserError(
      `${file.path}: tensor ${
        brief(name)
      } is missing, though ${this.#layout.index} says it is there`,
    );
  }

  /** @throws UserError also where there is no such tensor. */
  get(name: string): FoundTensor {
    const found = this.find(name);
    if (found !== undefined) return found;
    const { single, index } = this.#layout;
    const where = join(this.#folder, this.#index === undefined ? single : index);
    throw new UserError(`${where}: tensor ${brief(name)} is missing`);
  }

  close(): void {
    this.open.splice(0).forEach((file) => file.close());
  }

  /** Opens a file; where a shard is missing, says how many of the index's files are. */
  #openShard(shard: string): TensorFile {
    const path = join(this.#folder, shard),
      exist = (name: string) => exists(join(this.#folder, name));
    if (this.#index !== undefined && !exist(shard)) {
      const named = [...new Set(this.#index.values())];
      const missing = named.filter((name) => !exist(name)).length;
      const count = `${missing} of the ${named.length} files that ${this.#layout.index} names`;
      throw new UserError(`cannot read ${path}: it does not exist, as ${count} do not`);
    }
    const file = this.#layout.open(path);
    this.open.push(file);
    this.#shards.set(shard, file);
    return file;
  }
}
