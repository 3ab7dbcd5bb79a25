/**
 * One watched run: what its folder tells, read on as it grows.
 *
 * @module
 */
import { join } from "node:path";
import { isObject } from "../../model/files/json_file.ts";
import { readMemoryNote } from "../config/memory_note.ts";
import { RUN_FILES, type RunFile } from "../run/run_files.ts";
import { MetricColumns } from "./columns.ts";
import { Evaluations } from "./evaluations.ts";
import { plainText } from "./plain_text.ts";
import { look, Tail } from "./tail.ts";
import type { EvaluationPoint, MemoryUse, RunReport, RunStatus } from "./page/view.ts";

/** Bytes of config.yaml and summary.json that are read at most. */
const LONGEST_FILE = 2 ** 18;
/** Seconds without a new line after which a run counts as silent. */
const SILENT = 120;
/** Seconds after which a run that holds no lock counts as ended. */
const LONG_SILENT = 600;
/** Points of held-out loss that the page is sent. */
const MOST_EVALUATIONS = 500;

/** Thrown where a run can't be asked to stop; its message is for people. */
export class NotStopped extends Error {}

/** A small file's text; undefined where there is none. */
async function smallText(path: string): Promise<string | undefined> {
  const info = await look(path);
  if (!info?.isFile || info.size > LONGEST_FILE) return undefined;
  return await Deno.readTextFile(path).catch(() => undefined);
}

/** The memory that a summary.json tells of. */
function memoryOf(text: string | undefined): MemoryUse | null {
  try {
    const summary: unknown = JSON.parse(text ?? "");
    if (!isObject(summary) || typeof summary.peak_memory_mb !== "number") return null;
    const categories = isObject(summary.memory_mb) ? summary.memory_mb : {};
    return {
      total: summary.peak_memory_mb,
      categories: Object.fromEntries(
        Object.entries(categories).filter((entry): entry is [string, number] =>
          typeof entry[1] === "number"
        ).map(([name, size]) => [plainText(name), size]),
      ),
    };
  } catch {
    return null; // not whole
  }
}

/** Every second point or so, the last one among them. */
function thinned<T>(points: readonly T[], most: number): T[] {
  const every = Math.ceil(points.length / most);
  return points.filter((_, i) => (points.length - 1 - i) % every === 0);
}

/** Whether a process holds the lock of a run's folder; undefined where there is none to be asked. */
async function isLocked(folder: string): Promise<boolean | undefined> {
  const path = join(folder, RUN_FILES.lock);
  if (!(await look(path))?.isFile) return undefined;
  try {
    using file = await Deno.open(path);
    return !file.tryLockSync(false);
  } catch {
    return undefined; // a file system without locks
  }
}

/** A run's folder, which is only read, but for the file `stop`. */
export class WatchedRun {
  readonly columns = new MetricColumns();
  readonly evaluations = new Evaluations();
  readonly #metricsFile: Tail;
  readonly #evaluationsFile: Tail;
  #folder: Deno.FileInfo | undefined;
  #metrics: Deno.FileInfo | undefined;
  #summary: Deno.FileInfo | undefined;
  #config: Deno.FileInfo | undefined;
  #stopAsked = false;
  #memory: MemoryUse | null = null;
  #version = 0;

  /** @param name How the page calls it. */
  constructor(readonly id: number, readonly folder: string, readonly name: string) {
    this.#metricsFile = new Tail(join(folder, RUN_FILES.metrics));
    this.#evaluationsFile = new Tail(join(folder, RUN_FILES.evaluations));
  }

  /** Reads what is new; see {@linkcode Tail.poll} for `buffer`. */
  async poll(buffer: Uint8Array): Promise<void> {
    const before = this.#whole, asked = this.#stopAsked;
    await this.#look();
    const metrics = await this.#metricsFile.poll(this.columns, buffer);
    const evaluations = await this.#evaluationsFile.poll(this.evaluations, buffer);
    const changed = this.#whole !== before;
    if (changed) this.#memory = await this.#readMemory();
    if (metrics || evaluations || changed || asked !== this.#stopAsked) this.#version++;
  }

  /** When the files changed that are written whole. */
  get #whole(): string {
    return [this.#summary, this.#config].map((info) => info?.mtime?.getTime()).join();
  }

  /** The memory that the run took, or says that it takes. */
  async #readMemory(): Promise<MemoryUse | null> {
    const text = (name: RunFile) => smallText(join(this.folder, RUN_FILES[name]));
    return memoryOf(await text("summary")) ?? readMemoryNote(await text("config") ?? "") ?? null;
  }

  /** Looks at what is there, without reading it. */
  async #look(): Promise<void> {
    const file = (name: RunFile) => look(join(this.folder, RUN_FILES[name]));
    this.#folder = await Deno.stat(this.folder).catch(() => undefined);
    this.#metrics = await file("metrics");
    this.#summary = await file("summary");
    this.#config = await file("config");
    this.#stopAsked = await file("stop") !== undefined;
  }

  /** The configuration as the run wrote it down; undefined where it did not. */
  async configuration(): Promise<string | undefined> {
    const text = await smallText(join(this.folder, RUN_FILES.config));
    return text && plainText(text);
  }

  /** Seconds since the metrics changed. */
  get #age(): number | null {
    const changed = this.#metrics?.mtime?.getTime();
    return changed === undefined ? null : Math.max(0, (Date.now() - changed) / 1000);
  }

  get #status(): RunStatus {
    const age = this.#age, changed = this.#metrics?.mtime?.getTime() ?? 0;
    if (this.#folder === undefined) return "missing";
    const ended = this.#summary?.mtime?.getTime();
    // A run that goes on after its end writes new metrics.
    if (ended !== undefined && ended >= changed - 1000) return "finished";
    if (this.#stopAsked) return "stopping";
    if (age === null) return "waiting";
    return age > SILENT ? "silent" : "running";
  }

  /** What the page is told. */
  report(): RunReport {
    const { id, name, columns } = this;
    return {
      id,
      name,
      status: this.#status,
      version: this.#version,
      steps: columns.rows,
      unreadable: columns.unreadable,
      ...columns.last,
      age: this.#age,
      memory: this.#memory,
      evaluations: thinned(this.#points(), MOST_EVALUATIONS),
      samples: this.evaluations.answered.map(({ step }) => step),
    };
  }

  #points(): EvaluationPoint[] {
    const { columns, columns: { axes } } = this;
    return this.evaluations.all.filter(({ loss }) => Number.isFinite(loss)).map(
      ({ step, loss }) => {
        const row = columns.until("step", step) - 1;
        return {
          step,
          loss,
          tokens: row < 0 ? 0 : axes.tokens[row],
          seconds: row < 0 ? 0 : axes.seconds[row],
        };
      },
    );
  }

  /**
   * Asks the run to save its state and stop, by the file `stop` in its folder.
   *
   * @throws {NotStopped} where no run seems to work there, which would find the file.
   */
  async stop(): Promise<void> {
    await this.#look();
    const status = this.#status, age = this.#age;
    if (status === "finished" || status === "missing") {
      throw new NotStopped(`The run is ${status}: there is nothing to stop.`);
    }
    const locked = await isLocked(this.folder);
    // Another node's lock may not be seen from here: a run that wrote lately is believed to be at work.
    if (locked !== true && (age === null || age > LONG_SILENT)) {
      throw new NotStopped("No program works in the run's folder: there is nothing to stop.");
    }
    try {
      await Deno.writeTextFile(join(this.folder, RUN_FILES.stop), "stop", { createNew: true });
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) return; // somebody asked before
      throw new NotStopped("The file `stop` can't be written into the run's folder.");
    }
  }
}
