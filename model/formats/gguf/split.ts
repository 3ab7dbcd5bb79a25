/**
 * Models in several GGUF files, `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` makes them. The first
 * has the metadata; each has tensors of its own.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { brief } from "../../files/json_file.ts";
import { exists } from "../../files/whole_file.ts";
import { type GgufFile, openGgufFile, type TensorInfo } from "./header.ts";
import type { Metadata } from "./metadata.ts";

/** A model's files, opened. */
export interface GgufModel {
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  close(): void;
}

const NO = "split.no", COUNT = "split.count", TENSORS = "split.tensors.count";
const MOST_FILES = 99_999, MOST_TENSORS = 2 ** 31;
const NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s;

/** Number of files that a model is split into. */
function fileCount(metadata: Metadata): number {
  return metadata.count(COUNT, MOST_FILES, 0) ?? 1;
}

/** The names of all files. @throws UserError where the name of one does not tell them. */
function splitPaths(path: string, metadata: Metadata): string[] {
  const count = fileCount(metadata), five = (n: number) => String(n).padStart(5, "0");
  const [, stem = "", , of = ""] = NAME.exec(path) ?? [];
  if (Number(of) !== count) {
    const no = (metadata.count(NO, MOST_FILES, 0) ?? 0) + 1;
    throw new UserError(
      `${path}: is one of ${count} files (split.count), expected them by their names ` +
        `NAME-${five(no)}-of-${five(count)}.gguf`,
    );
  }
  const paths = Array.from({ length: count }, (_, i) => `${stem}-${five(i + 1)}-of-${of}.gguf`);
  const missing = paths.filter((part) => !exists(part));
  if (missing.length > 0) {
    throw new UserError(
      `cannot read ${
        missing[0]
      }: it does not exist, as ${missing.length} of the ${count} files of ` +
        "the model do not",
    );
  }
  return paths;
}

/** The file with the metadata: the one named, or the first of those it belongs to. @throws UserError as all readers do. */
export function openFirstSplit(path: string): GgufFile {
  const opened = openGgufFile(path), { file, metadata } = opened;
  try {
    if ((metadata.count(NO, MOST_FILES, 0) ?? 0) === 0) return opened;
    const [first] = splitPaths(path, metadata);
    file.close();
    return openGgufFile(first);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** That a file is the part that its name says. */
function checkPart({ file: { path }, metadata }: GgufFile, index: number, count: number): void {
  if (metadata.count(NO, MOST_FILES, 0) !== index) metadata.fail(NO, String(index));
  if (fileCount(metadata) !== count) metadata.fail(COUNT, `${count}, as in ${dirname(path)}`);
}

/** All tensors of all files. */
function allTensors(parts: readonly GgufFile[]): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  for (const part of parts) {
    for (const [name, place] of part.tensors) {
      const other = tensors.get(name);
      if (other !== undefined) {
        throw new UserError(
          `${part.file.path}: tensor ${brief(name)} is in ${other.file.path}, too`,
        );
      }
      tensors.set(name, place);
    }
  }
  const [{ metadata }] = parts, expected = metadata.count(TENSORS, MOST_TENSORS, 0);
  if (expected !== undefined && expected !== tensors.size) {
    metadata.fail(TENSORS, `${tensors.size}, as many as the ${parts.length} files have`);
  }
  return tensors;
}

/**
 * Opens a model's file, or all of its files where it is split.
 *
 * @param path The file, or any of them.
 * @throws UserError that names the file and what is wrong with it, or the one that is missing.
 */
export function openGgufModel(path: string): GgufModel {
  const open = [openGgufFile(path)];
  const close = () => open.forEach(({ file }) => file.close());
  try {
    const [{ metadata, tensors }] = open;
    if (fileCount(metadata) <= 1) return { metadata, tensors, close };
    const paths = splitPaths(path, metadata);
    const parts = paths.map((part) => {
      if (join(part) === join(path)) return open[0];
      const opened = openGgufFile(part);
      open.push(opened);
      return opened;
    });
    parts.forEach((part, i) => checkPart(part, i, parts.length));
    return { metadata: parts[0].metadata, tensors: allTensors(parts), close };
  } catch (error) {
    close();
    throw error;
  }
}
