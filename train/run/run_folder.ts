/**
 * The folder of a run: the one place that knows the names in it, who works in it, and what is gone on from.
 *
 * @module
 */
import type { RunFolderKeys } from "../config/schema.ts";
import { dirname, join, resolve } from "node:path";
import { UsageError, UserError } from "../../kernels/errors.ts";
import { removeQuietly, syncFolder } from "../../model/files/durable.ts";
import { isTemporaryName } from "../../model/files/temporary_name.ts";
import { exists, fileError, isFolder, isSame, namesIn } from "../../model/files/whole_file.ts";
import { RUN_FILES, type RunFile } from "./run_files.ts";
import { RunLock } from "./run_lock.ts";
import {
  clearStates,
  isStateFolder,
  type SavedState,
  savedStates,
  stateAt,
} from "../states/saved_states.ts";

/** What a run has made before it has results. */
const BEFORE_RESULTS: readonly RunFile[] = [
  "lock",
  "config",
  "metrics",
  "evaluations",
  "csv",
  "evaluationsCsv",
  "tensorboard",
  "stop",
];

/** `runs/` and the local time, in characters every file system takes. */
function folderByTime(): string {
  const now = new Date();
  const two = (number: number) => String(number).padStart(2, "0");
  const date = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join("-");
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("-");
  return `runs/${date}_${time}`;
}

/** Refuses a folder that is there already. */
function existing(folder: string): UserError {
  return new UserError(
    `output folder ${folder} exists already and is not overwritten; expected a new one, ` +
      "or --resume auto to go on with the run in it",
  );
}

/** Refuses a folder that could not be made, before a run spends time on anything else. */
function checkNew(folder: string): void {
  if (exists(folder)) throw existing(folder);
  let parent = dirname(resolve(folder));
  while (!exists(parent) && dirname(parent) !== parent) parent = dirname(parent);
  try {
    if (!Deno.statSync(parent).isDirectory) {
      throw new UserError(`output folder ${folder} can't be made: ${parent} is no folder`);
    }
    Deno.removeSync(Deno.makeTempDirSync({ dir: parent }));
  } catch (error) {
    throw fileError(parent, "write", error);
  }
}

/**
 * A run's folder. One process at a time works in it: it holds a lock of the operating system. A folder that is gone on in
 * is locked from the start; a new one is made by {@linkcode begin}.
 */
export class RunFolder implements Disposable {
  /** What the run goes on from, the newest first; empty where it begins. */
  readonly states: readonly SavedState[];
  /** Whether the folder was there before this program. */
  readonly existed: boolean;
  /** Whether somebody named the folder: then it gets no other name. */
  readonly #named: boolean;
  #path: string;
  #lock?: RunLock;
  #begun = false;

  private constructor(path: string | undefined, states: readonly SavedState[], lock?: RunLock) {
    this.#named = path !== undefined;
    this.#path = path ?? folderByTime();
    this.states = states;
    this.#lock = lock;
    this.existed = lock !== undefined;
  }

  /**
   * Finds what `output` and `resume` name.
   *
   * @throws {UserError} where the folder is there and should not be, is not that of a run, has nothing to go on from, or
   *   another run works in it.
   */
  static open({ output, resume }: RunFolderKeys): RunFolder {
    if (resume === "auto") {
      if (output === undefined) {
        throw new UsageError(
          "resume is auto, but output is not given; expected the run's folder, which is made where there is none",
        );
      }
      if (exists(output)) return RunFolder.#goOn(output, "auto");
    } else if (resume !== undefined && !isStateFolder(resume)) {
      if (!exists(resume)) {
        throw new UserError(
          `resume: ${resume} does not exist; expected auto, a run's folder, or that of one of its states`,
        );
      }
      if (output !== undefined && !isSame(output, resume)) {
        throw new UsageError(
          `resume ${resume} goes on in that folder, but output is ${output}; expected no output, ` +
            `or one of the states in ${join(resume, RUN_FILES.states)} for a run of its own`,
        );
      }
      return RunFolder.#goOn(resume, "run");
    }
    if (output !== undefined) checkNew(output);
    return new RunFolder(
      output,
      resume === undefined || resume === "auto" ? [] : [stateAt(resume)],
    );
  }

  /** A folder that is there. */
  static #goOn(path: string, resume: "auto" | "run"): RunFolder {
    if (!isFolder(path)) throw new UserError(`${path} is no folder; expected that of a run`);
    const own: readonly string[] = Object.values(RUN_FILES);
    const foreign = namesIn(path).find((name) => !own.includes(name) && !isTemporaryName(name));
    const folder = join(path, RUN_FILES.states), states = savedStates(folder);
    if (states.length === 0 && foreign !== undefined) {
      throw new UserError(
        `${path} has no state to go on from, and holds "${foreign}", which no run makes; ` +
          "expected a run's folder, an empty one or a new one",
      );
    }
    const lock = new RunLock(join(path, RUN_FILES.lock), path);
    try {
      clearStates(folder);
      for (const name of namesIn(path)) if (isTemporaryName(name)) removeQuietly(join(path, name));
      const found = new RunFolder(path, savedStates(folder), lock);
      if (found.states.length > 0) return found;
      const names = namesIn(path), before = BEFORE_RESULTS.map((file): string => RUN_FILES[file]);
      const result = names.find((name) => !before.includes(name) && name !== RUN_FILES.states);
      if (result !== undefined || resume === "run") {
        const but = result === undefined ? "" : `, but ${result}`;
        throw new UserError(
          `${path} has no state to go on from${but}; expected a run that saved one, or a new output`,
        );
      }
      return found;
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** The folder. One that nobody named has its final name from {@linkcode begin} on. */
  get path(): string {
    return this.#path;
  }

  /** The path of what lies in it. */
  file(file: RunFile): string {
    return join(this.path, RUN_FILES[file]);
  }

  /** Whether the results of a run are in it. */
  get hasResults(): boolean {
    return exists(this.file("summary")) &&
      (exists(this.file("adapter")) || exists(this.file("model")));
  }

  /**
   * Makes the folder, where it is not there, and locks it. Where its name was not given and another run has taken it
   * meanwhile, it gets another one. A run that goes on has no results yet, though it had some before it was made longer.
   *
   * @throws {UserError} where it can't be made, or was made by another run.
   */
  begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    if (this.#lock !== undefined) {
      removeQuietly(this.file("summary"));
      syncFolder(this.#path);
      return;
    }
    const first = this.#path;
    for (let i = 1;; i++) {
      this.#path = i === 1 ? first : `${first}-${i}`;
      try {
        Deno.mkdirSync(dirname(this.#path), { recursive: true });
        Deno.mkdirSync(this.#path);
        break;
      } catch (error) {
        if (!(error instanceof Deno.errors.AlreadyExists)) {
          throw fileError(this.#path, "write", error);
        }
        if (this.#named) throw existing(this.#path);
      }
    }
    syncFolder(dirname(this.#path));
    this.#lock = new RunLock(this.file("lock"), this.#path);
  }

  /** Takes back what {@linkcode begin} made, where the run came to nothing. */
  discard(): void {
    if (this.existed || this.#lock === undefined) return;
    this[Symbol.dispose]();
    const own = BEFORE_RESULTS.map((file): string => RUN_FILES[file]);
    if (namesIn(this.path).every((name) => own.includes(name))) removeQuietly(this.path);
  }

  /** Gives the lock back. */
  [Symbol.dispose](): void {
    this.#lock?.[Symbol.dispose]();
    this.#lock = undefined;
  }
}
