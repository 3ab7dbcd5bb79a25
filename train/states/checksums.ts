/**
 * Checksums of what a run saves: SHA-256, in hexadecimal.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { fileError } from "../../model/files/whole_file.ts";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import type { Span } from "../../model/text/targets.ts";

/** A checksum to be fed piece by piece, at some 1.7 GB/s where the processor knows SHA. */
export function startChecksum(): Hash {
  return createHash("sha256");
}

/** The checksum of some bytes. */
export function checksum(bytes: Uint8Array | string): string {
  return startChecksum().update(bytes).digest("hex");
}

/**
 * The checksum of samples as training sees them: their ids, which of them are targets, and of preferences their parts, in order. It does not depend on
 * the names or formats of the files that they came from.
 */
export function samplesChecksum(samples: Iterable<TokenizedSample>): string {
  const hash = startChecksum();
  for (const { ids, targets, part } of samples) {
    if (part !== undefined) hash.update(part);
    hash.update(new Uint8Array(Uint32Array.from(sampleHeader(ids, targets)).buffer));
    hash.update(new Uint8Array(Uint32Array.from(ids).buffer));
  }
  return hash.digest("hex");
}

/** No sample has so many ids. */
const SEVERAL_SPANS = 0xffff_ffff;

/**
 * What tells a sample's targets: where the ids end and where its prompt does, if the targets are all that follow. No other
 * sample has the same numbers.
 */
function sampleHeader(ids: Uint32Array, targets: readonly Span[]): readonly number[] {
  if (targets.length === 1 && targets[0][1] === ids.length) return [ids.length, targets[0][0]];
  return [SEVERAL_SPANS, ids.length, targets.length, ...targets.flat()];
}

/** What a damaged file is to be answered with. */
export const INSTEAD = "expected the files as they were saved: " +
  "go on from another state, or start anew without --resume";

/** Files of a state that are not as they were saved: nothing of it is to be believed. */
export class DamagedState extends UserError {
  override name = "DamagedState";
}

/** How a sealed text ends. */
const SEAL_START = '"sha256": "', SEAL_END = '"\n}\n', NO_CHECKSUM = "0".repeat(64);
const SEAL_BYTES = SEAL_START.length + NO_CHECKSUM.length + SEAL_END.length;
const SEAL = /^"sha256": "([0-9a-f]{64})"\n\}\n$/;

/** A value as indented JSON whose last field, `sha256`, is the checksum of the text with zeros in that place. */
export function sealedJson(value: Record<string, unknown>): string {
  const text = JSON.stringify({ ...value, sha256: NO_CHECKSUM }, null, 2) + "\n";
  return text.slice(0, -SEAL_BYTES) + SEAL_START + checksum(text) + SEAL_END;
}

/**
 * The value in a file with the text of {@linkcode sealedJson}, which is checked byte by byte.
 *
 * @throws {DamagedState} where it is not as it was written, and {UserError} where it can't be read.
 */
export function readSealed(path: string): unknown {
  let bytes: Uint8Array;
  try {
    regularFileSize(path);
    bytes = Deno.readFileSync(path);
  } catch (error) {
    throw fileError(path, "read", error);
  }
  // As Latin-1 every byte is one character, so that no damage hides in how text is decoded.
  const found = SEAL.exec(new TextDecoder("latin1").decode(bytes.subarray(-SEAL_BYTES)))?.[1];
  if (found === undefined) {
    throw new DamagedState(
      `${path}: does not end with its checksum: it is damaged, or of an older version; ${INSTEAD}`,
    );
  }
  const at = bytes.length - SEAL_BYTES + SEAL_START.length;
  bytes.set(new TextEncoder().encode(NO_CHECKSUM), at);
  if (checksum(bytes) !== found) {
    throw new DamagedState(`${path}: is damaged: its checksum (SHA-256) is another; ${INSTEAD}`);
  }
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new DamagedState(`${path}: is not valid JSON; ${INSTEAD}`);
  }
}
