/**
 * The runs that a page shows.
 *
 * @module
 */
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../../kernels/errors.ts";
import { exists, isFolder, namesIn } from "../../model/files/whole_file.ts";
import { RUN_FILES } from "../run/run_files.ts";
import { plainText } from "./plain_text.ts";
import { WatchedRun } from "./run.ts";
import { LONGEST_LINE } from "./tail.ts";

/** Milliseconds between looks at the folders while somebody asks. */
const INTERVAL = 500;
/** Runs at most: a page has no room for more. */
export const MOST_RUNS = 64;

/** Names of runs: the folders' own, or as much of their paths as tells them apart. */
export function runNames(folders: readonly string[]): string[] {
  const parts = folders.map((folder) => plainText(resolve(folder)).split(/[/\\]/));
  return parts.map((own, i) => {
    for (let count = 1; count < own.length; count++) {
      const end = (path: readonly string[]) => path.slice(-count).join("/");
      if (parts.every((path, j) => j === i || end(path) !== end(own))) return end(own);
    }
    return own.join("/");
  });
}

/** Runs by their number, read on when somebody asks for them. */
export class Runs {
  #all: readonly WatchedRun[] = [];
  readonly #buffer = new Uint8Array(LONGEST_LINE);
  #polling: Promise<void> | undefined;
  #next = 0;

  /** @param folders Of runs that may still be about to begin. */
  constructor(folders: readonly string[]) {
    this.watch(folders);
  }

  /** Watches these instead. */
  watch(folders: readonly string[]): void {
    const names = runNames(folders);
    this.#all = folders.map((folder, id) => new WatchedRun(id, folder, names[id]));
  }

  get all(): readonly WatchedRun[] {
    return this.#all;
  }

  /**
   * Reads what is new, unless that was done just now, and waits no longer than `patience` milliseconds for it.
   *
   * @returns Whether more is still being read.
   */
  async poll(patience: number): Promise<boolean> {
    if (this.#polling === undefined && performance.now() >= this.#next) {
      this.#polling = this.#pollAll().finally(() => {
        this.#polling = undefined;
        this.#next = performance.now() + INTERVAL;
      });
    }
    if (this.#polling === undefined) return false;
    await Promise.race([this.#polling, delay(patience)]);
    return this.#polling !== undefined;
  }

  async #pollAll(): Promise<void> {
    for (const run of this.all) {
      // A folder that can't be read now may be there at the next look.
      await run.poll(this.#buffer).catch(() => {});
    }
  }
}

/**
 * The folders of runs that a command line names.
 *
 * @throws {UserError} that names what is none.
 */
export function checkRunFolders(folders: readonly string[]): void {
  if (folders.length > MOST_RUNS) {
    throw new UserError(`got ${folders.length} runs; expected at most ${MOST_RUNS}`);
  }
  for (const folder of folders) {
    if (!exists(folder)) throw new UserError(`${folder} does not exist; expected a run's folder`);
    if (!isFolder(folder)) throw new UserError(`${folder} is no folder; expected that of a run`);
    const names = namesIn(folder), own: readonly string[] = Object.values(RUN_FILES);
    if (names.length > 0 && !names.some((name) => own.includes(name))) {
      throw new UserError(
        `${folder} holds "${names[0]}" and nothing of a run; expected the folder of a run`,
      );
    }
  }
}
