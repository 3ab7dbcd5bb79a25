/**
 * The event files of a run, for TensorBoard: one file for each time that the run was begun or resumed.
 *
 * A resumed run cuts the files before it back to the step that it goes on from, and never writes to them again: a
 * TensorBoard that reads them meanwhile would take what is appended behind a cut for a damaged record. Its own file
 * begins with an event by which such a TensorBoard forgets the steps that were cut off.
 *
 * @module
 */
import { join } from "node:path";
import { exists, fileError, namesIn } from "../../model/files/whole_file.ts";
import { AppendFile } from "../run/append_file.ts";
import { eventRecord, eventRecords, type LoggedEvent, type Scalars } from "./event.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";

/** `events.out.tfevents.` and seconds since 1970, by which TensorBoard orders the files. */
const NAME = /^events\.out\.tfevents\.(\d{10})\.lorikeet$/;

/** A file's bytes after the last event of these steps, and whether values are among them. */
function keptBytes(path: string, step: number): { bytes: number; values: boolean } {
  const kept = { bytes: 0, values: false };
  regularFileSize(path);
  for (const record of eventRecords(Deno.readFileSync(path))) {
    if (record.step > step) break;
    kept.bytes = record.end;
    kept.values ||= record.values;
  }
  return kept;
}

/**
 * Cuts the event files of a folder back to a step; files without values are removed.
 *
 * @returns The seconds in the name of the newest there was; 0 where there was none.
 */
function cutBack(folder: string, step: number): number {
  let newest = 0;
  for (const name of exists(folder) ? namesIn(folder) : []) {
    const [, seconds] = NAME.exec(name) ?? [];
    if (seconds === undefined) continue;
    newest = Number(seconds);
    const path = join(folder, name);
    try {
      const { bytes, values } = keptBytes(path, step);
      if (values) Deno.truncateSync(path, bytes);
      else Deno.removeSync(path);
    } catch (error) {
      throw fileError(path, "write", error);
    }
  }
  return newest;
}

/** The event file of a run that is begun or resumed. */
export class EventFile implements Disposable {
  readonly path: string;
  readonly #file: AppendFile;
  readonly #clock: () => number;

  /**
   * Makes the file, and the folder where there is none.
   *
   * @param step The step that the run goes on from; 0 where it begins.
   * @param clock The time, in seconds since 1970.
   * @throws {UserError} where it can't be written.
   */
  constructor(folder: string, step: number, clock: () => number = () => Date.now() / 1000) {
    this.#clock = clock;
    const newest = cutBack(folder, step);
    const seconds = Math.max(newest + 1, Math.floor(clock()));
    this.path = join(folder, `events.out.tfevents.${String(seconds).padStart(10, "0")}.lorikeet`);
    try {
      Deno.mkdirSync(folder, { recursive: true });
      this.#file = new AppendFile(this.path, { createNew: true });
    } catch (error) {
      throw fileError(folder, "write", error);
    }
    this.#write(0, { kind: "version" });
    // TensorBoard's reader in Python takes the first such event of a run for its beginning, and the others for restarts.
    this.#write(step + 1, { kind: "start" });
  }

  /** Adds the values of a step; where that fails, the file has none of them. @throws {UserError} then. */
  write(step: number, scalars: Scalars, texts: Readonly<Record<string, string>> = {}): void {
    this.#write(step, { kind: "values", scalars, texts });
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #write(step: number, what: LoggedEvent["what"]): void {
    this.#file.append(eventRecord({ wallTime: this.#clock(), step, what }));
  }
}
