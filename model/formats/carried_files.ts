/**
 * What a model's folder holds besides configuration and weights, on its way into a folder that is made of it:
 * tokenizer, chat templates, generation settings, licence, notes, code.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { OwnFiles } from "./own_files.ts";
import { TOKENIZER_FILES } from "./tokenizer_names.ts";
import { fileError, namesIn } from "../files/whole_file.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";

/** Weights, states of training and what describes them, by their names. */
const WEIGHTS =
  /\.(?:safetensors|bin|pth|pt|ckpt|gguf|ggml|h5|msgpack|onnx|onnx_data|tflite|ot|npz|nemo|pkl|mlmodel)$|\.index(?:\.[\w-]+)?\.json$/;
/** The model's own weights, in the formats that its folder may have them in side by side. */
const OWN_WEIGHTS =
  /^(?:(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)|consolidated\.\d\d\.pth|.*\.index\.json)$/;
/**
 * What would make another model of the folder: an adapter's configuration is applied by `transformers`, and Meta's
 * layout is told by its own (the checksums are those of weights that are made anew).
 */
const OF_OTHER_WEIGHTS = new Set([
  "adapter_config.json",
  "checklist.chk",
  "tokenizer_checklist.chk",
]);

/** The largest file that is carried over; a tokenizer of 256,000 tokens has 35 MB. */
const MAX_BYTES = 1_000_000_000;
/** Folders in a model's folder hold pictures of its notes; more than this is something else. */
const MAX_DEPTH = 4, MAX_FILES = 2000;

/** Files to copy, as paths below the folder, and what is left out with the reason. */
export interface Carried {
  files: string[];
  left: string[];
}

/** A folder's entries, sorted; links are what they lead to, and nothing where that is missing. */
function entries(folder: string): { name: string; info: Deno.FileInfo | undefined }[] {
  return namesIn(folder).map((name) => {
    try {
      return { name, info: Deno.statSync(join(folder, name)) };
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return { name, info: undefined };
      throw fileError(folder, "read", error);
    }
  });
}

/** The files of a folder inside the model's; undefined where it holds weights, links out of the model's, or too much. */
function inFolder(folder: string, own: OwnFiles, depth: number): string[] | undefined {
  const files: string[] = [];
  for (const { name, info } of entries(folder)) {
    if (name.startsWith(".")) continue;
    if (WEIGHTS.test(name) || info === undefined || info.size > MAX_BYTES) return undefined;
    if (!own.has(join(folder, name))) return undefined;
    if (info.isFile) files.push(name);
    if (!info.isDirectory) continue;
    const inner = depth < MAX_DEPTH ? inFolder(join(folder, name), own, depth + 1) : undefined;
    if (inner === undefined) return undefined;
    files.push(...inner.map((file) => join(name, file)));
  }
  return files.length > MAX_FILES ? undefined : files;
}

/**
 * What of a model's folder belongs into one that is made of it: every file, links inside the folder followed, that
 * holds no weights and is not written anew. Hidden files, which are those of Git and of caches, are not looked at.
 *
 * @param options `written`: names that are written anew. `tokenizer`: whether the tokenizer's files are carried over,
 *   too. `read`: names of files that were read as what they are called, so that they may be links to anywhere.
 *   `meta`: whether the folder is in Meta's layout, whose params.json becomes config.json.
 */
export function carriedFiles(
  folder: string,
  { written, tokenizer, read, meta }: {
    written: readonly string[];
    tokenizer: boolean;
    read: readonly string[];
    meta: boolean;
  },
): Carried {
  const carried: Carried = { files: [], left: [] }, own = new OwnFiles(folder);
  let weights = 0;
  for (const { name, info } of entries(folder)) {
    if (name.startsWith(".") || written.includes(name) || OWN_WEIGHTS.test(name)) continue;
    if (!tokenizer && TOKENIZER_FILES.includes(name)) continue;
    if (meta && name === "params.json") continue;
    if (OF_OTHER_WEIGHTS.has(name)) carried.left.push(name);
    else if (info === undefined) carried.left.push(`${name} (a link to nothing)`);
    else if (!info.isDirectory && WEIGHTS.test(name)) weights++;
    else if (!read.includes(name) && !own.has(join(folder, name))) {
      carried.left.push(`${name} (a link out of the folder)`);
    } else if (info.isDirectory) {
      const inner = inFolder(join(folder, name), own, 1);
      if (inner === undefined) carried.left.push(`${name}/`);
      else carried.files.push(...inner.map((file) => join(name, file)));
    } else if (!info.isFile) carried.left.push(`${name} (no file)`);
    else if (info.size > MAX_BYTES) carried.left.push(`${name} (${info.size} bytes)`);
    else carried.files.push(name);
  }
  if (weights > 0) {
    carried.left.unshift(weights === 1 ? "a file of weights" : `${weights} files of weights`);
  }
  return carried;
}

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/**
 * Copies a file's content; its permissions stay behind, since a cache's files are read-only. JSON loses a byte order
 * mark, with which Python refuses it.
 */
async function copyFile(from: string, to: string): Promise<void> {
  try {
    regularFileSize(from);
    using source = await Deno.open(from);
    const start = new Uint8Array(BYTE_ORDER_MARK.length);
    const marked = to.endsWith(".json") && await source.read(start) === start.length &&
      BYTE_ORDER_MARK.every((byte, i) => start[i] === byte);
    if (!marked) await source.seek(0, Deno.SeekMode.Start);
    await Deno.mkdir(dirname(to), { recursive: true });
    using target = await Deno.open(to, { write: true, create: true, truncate: true });
    await source.readable.pipeTo(target.writable, { preventClose: true });
  } catch (error) {
    throw fileError(from, "read", error);
  }
}

/** Copies files given by paths below `folder`. @throws UserError that names the file. */
export async function copyFiles(
  folder: string,
  files: readonly string[],
  to: string,
): Promise<void> {
  for (const file of files) await copyFile(join(folder, file), join(to, file));
}

/** A file of a folder that is made: a copy of another, or a text of its own. */
export interface FileToMake {
  /** Its path below the new folder, with `/`. */
  name: string;
  content: { copyOf: string } | { text: string };
}

/** Makes files in a folder, in place of those that it has. @throws UserError that names the file. */
export async function makeFiles(folder: string, files: readonly FileToMake[]): Promise<void> {
  for (const { name, content } of files) {
    const path = join(folder, name);
    if ("copyOf" in content) await copyFile(content.copyOf, path);
    else {
      try {
        await Deno.mkdir(dirname(path), { recursive: true });
        await Deno.writeTextFile(path, content.text);
      } catch (error) {
        throw fileError(path, "write", error);
      }
    }
  }
}
