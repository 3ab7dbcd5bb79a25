/**
 * The adapter or model with the lowest held-out loss so far, in a run's `best/`.
 *
 * @module
 */
import { basename, join } from "node:path";
import { writeJson } from "../../model/files/json_file.ts";
import { exists, fileError, namesIn } from "../../model/files/whole_file.ts";
import type { EvaluationRecord } from "./history.ts";

/** Where the next best is written, and where the one before it is while they change places. */
const NEW = ".new", OLD = ".old";

/** Removes a folder, where there is one. */
function remove(folder: string): void {
  if (exists(folder)) Deno.removeSync(folder, { recursive: true });
}

/**
 * The folder of the best. Of what it holds, one is whole at any time: a new one is written beside the old one and takes its
 * place by two renames. A program that is killed between the two leaves both, and {@linkcode recover} ends what it began.
 */
export class BestFolder {
  constructor(readonly folder: string) {}

  /** Whether there is one. */
  get isEmpty(): boolean {
    return !exists(this.folder) || namesIn(this.folder).every((name) => name.startsWith("."));
  }

  /**
   * Ends what a program that was killed has left half done.
   *
   * @throws {UserError} where the folder can't be written.
   */
  recover(): void {
    const { folder } = this, fresh = join(folder, NEW), old = join(folder, OLD);
    try {
      // The old one moves once the new one is whole.
      if (this.isEmpty && exists(old) && exists(fresh)) {
        for (const name of namesIn(fresh)) Deno.renameSync(join(fresh, name), join(folder, name));
      }
      remove(old);
      remove(fresh);
    } catch (error) {
      throw fileError(folder, "write", error);
    }
  }

  /**
   * Keeps what is the best now, in place of the one before.
   *
   * @param write Writes the adapter or model into a folder of its own there. @returns Its path.
   * @throws {UserError} where it can't be written; the one before stays then.
   */
  async keep(
    { step, epoch, loss, perplexity }: EvaluationRecord,
    write: (parent: string) => Promise<string>,
  ): Promise<void> {
    const { folder } = this, fresh = join(folder, NEW), old = join(folder, OLD);
    try {
      this.recover();
      const written = await write(fresh), place = join(folder, basename(written));
      writeJson(join(written, "evaluation.json"), { step, epoch, loss, perplexity });
      if (exists(place)) Deno.renameSync(place, old);
      Deno.renameSync(written, place);
      remove(old);
      remove(fresh);
    } catch (error) {
      throw fileError(folder, "write", error);
    }
  }
}
