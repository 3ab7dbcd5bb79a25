/**
 * The part of saving a state that waits for the disk: hashing, writing, syncing, renaming. It runs on a thread of its own
 * (state_worker.ts), so that steps go on meanwhile.
 *
 * A state is made under a hidden name beside its own, synced, and renamed: a program or a machine that dies leaves it whole
 * or not at all, and the states before it as they were.
 *
 * @module
 */
import type { Hash } from "node:crypto";
import { dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { removeQuietly, syncFolder, writeAllSync } from "../../model/files/durable.ts";
import { exists, fileError } from "../../model/files/whole_file.ts";
import { checksum, sealedJson, startChecksum } from "./checksums.ts";
import {
  hiddenName,
  pruneStates,
  removeState,
  STATE_JSON,
  STATE_TENSORS,
  stateName,
} from "./saved_states.ts";
import type { TensorChecksums } from "./state_file.ts";
import type { StatePiece } from "./state_tensors.ts";

/** What the writing thread is sent: `begin`, the tensors' bytes, `end`, in this order. */
export type WriterMessage =
  /** Memory of which the system is to give the first bytes for good; it comes back at once. */
  | { kind: "touch"; memory: ArrayBuffer; bytes: number }
  | {
    kind: "begin";
    /** The run's `states/`. */
    states: string;
    step: number;
    /** What state.safetensors begins with. */
    header: Uint8Array<ArrayBuffer>;
  }
  | { kind: "bytes" } & StatePiece
  | {
    kind: "end";
    /** state.json without checksums. */
    fields: Record<string, unknown>;
    /** How many states stay. */
    keep: number;
    /** Files that this state counts the lines of: they are synced before it gets its name. */
    sync: readonly string[];
  }
  /** Gives up what was begun. */
  | { kind: "abandon" };

/** What it answers. */
export type WriterAnswer =
  /** Memory of a piece that is written, or was touched. */
  | { kind: "took"; memory: ArrayBuffer }
  /** @param problem What could not be removed of the states that are superfluous now. */
  | { kind: "written"; path: string; problem?: string }
  /** Nothing was written; what comes of this state is ignored. @param isFile Whether a file was the reason. */
  | { kind: "failed"; reason: string; isFile: boolean };

/** Waits until the disk has a file's content. */
function syncFile(path: string): void {
  if (!exists(path)) return;
  const file = Deno.openSync(path, { read: true, write: true });
  try {
    file.syncSync();
  } finally {
    file.close();
  }
}

/** A state that is being written. */
class OpenState {
  readonly path: string;
  readonly #temporary: string;
  readonly #file: Deno.FsFile;
  readonly #header: string;
  readonly #hashes = new Map<string, Hash>();

  constructor(readonly states: string, readonly step: number, header: Uint8Array) {
    const name = stateName(step);
    this.path = join(states, name);
    this.#temporary = join(states, hiddenName(name, "new"));
    this.#header = checksum(header);
    removeQuietly(this.#temporary);
    try {
      Deno.mkdirSync(this.#temporary, { recursive: true });
      const tensors = join(this.#temporary, STATE_TENSORS);
      this.#file = Deno.openSync(tensors, { write: true, createNew: true });
      writeAllSync(this.#file, header);
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  write({ memory, parts }: StatePiece): void {
    let at = 0;
    for (const { tensor, bytes } of parts) {
      let hash = this.#hashes.get(tensor);
      if (hash === undefined) this.#hashes.set(tensor, hash = startChecksum());
      hash.update(new Uint8Array(memory, at, bytes));
      at += bytes;
    }
    writeAllSync(this.#file, new Uint8Array(memory, 0, at));
  }

  finish(fields: Record<string, unknown>, sync: readonly string[]): void {
    this.#file.syncSync();
    this.#file.close();
    const tensors = [...this.#hashes].map(([name, hash]) => [name, hash.digest("hex")]);
    const checksums: TensorChecksums = {
      header: this.#header,
      tensors: Object.fromEntries(tensors),
    };
    const json = join(this.#temporary, STATE_JSON);
    const file = Deno.openSync(json, { write: true, createNew: true });
    try {
      writeAllSync(file, new TextEncoder().encode(sealedJson({ ...fields, checksums })));
      file.syncSync();
    } finally {
      file.close();
    }
    syncFolder(this.#temporary);
    for (const path of sync) syncFile(path);
    if (exists(this.path)) removeState({ path: this.path });
    Deno.renameSync(this.#temporary, this.path);
    syncFolder(this.states);
    syncFolder(dirname(this.states)); // which got its name with the first state
  }

  abandon(): void {
    try {
      this.#file.close();
    } catch {
      // It was closed already.
    }
    removeQuietly(this.#temporary);
  }
}

/** Removes superfluous states. @returns What was wrong, where one could not be removed: the new one is there all the same. */
function pruned(states: string, step: number, keep: number): string | undefined {
  try {
    pruneStates(states, step, keep);
  } catch (error) {
    return `an older state in ${states} can't be removed: ${(error as Error).message}`;
  }
}

/** The writing thread's part, to be called with each message in order. */
export function stateWriter(
  answer: (answer: WriterAnswer, transfer?: Transferable[]) => void,
): (message: WriterMessage) => void {
  let open: OpenState | undefined, path = "";
  const attempt = (work: () => void) => {
    try {
      work();
    } catch (thrown) {
      open?.abandon();
      open = undefined;
      const error = fileError(path, "write", thrown);
      const reason = error instanceof Error ? error.message : `${error}`;
      answer({ kind: "failed", reason, isFile: error instanceof UserError });
    }
  };
  return (message) => {
    if (message.kind === "begin") {
      const { states, step, header } = message;
      path = join(states, stateName(step));
      attempt(() => open = new OpenState(states, step, header));
    } else if (message.kind === "bytes" || message.kind === "touch") {
      if (message.kind === "touch") new Uint8Array(message.memory, 0, message.bytes).fill(0);
      else attempt(() => open?.write(message));
      const { memory } = message;
      answer({ kind: "took", memory }, [memory]);
    } else if (message.kind === "abandon") {
      open?.abandon();
      open = undefined;
    } else {
      const { fields, keep, sync } = message;
      attempt(() => {
        if (open === undefined) return;
        open.finish(fields, sync);
        const { states, step } = open;
        open = undefined;
        answer({ kind: "written", path, problem: pruned(states, step, keep) });
      });
    }
  };
}
