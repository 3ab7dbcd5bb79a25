/**
 * A CSV file beside a file of JSON lines, with the fields of its lines that are one value each.
 *
 * @module
 */
import { replaceText } from "../../model/files/durable.ts";
import { UserError } from "../../kernels/errors.ts";
import { fileError } from "../../model/files/whole_file.ts";
import { AppendFile } from "../run/append_file.ts";
import { csvLine, type CsvValue } from "./csv.ts";
import { BrokenLine, readLines } from "./read_lines.ts";

/** A line's fields by name; one that it lacks is empty. */
type Line<F extends string> = { readonly [name in F]?: CsvValue };

/** A CSV file that is open to get more. */
export class CsvFile<F extends string> implements Disposable {
  readonly #file: AppendFile;

  /**
   * Makes the file anew from the lines that there are: it is whole also where an earlier part of the run had none.
   *
   * @param from The file of JSON lines, cut back to the step that the run goes on from.
   * @throws {UserError} where it can't be written.
   */
  constructor(readonly path: string, readonly fields: readonly F[], from: string) {
    try {
      const rows = Array.from(readLines(from), (line) => this.#row(line as unknown as Line<F>));
      replaceText(path, csvLine(fields) + rows.join(""));
      this.#file = new AppendFile(path, {});
    } catch (error) {
      if (error instanceof BrokenLine) throw new UserError(`${from}: ${error.message}`);
      throw fileError(path, "write", error);
    }
  }

  /** Adds a line; where that fails, the file has none of it. @throws {UserError} then. */
  write(line: Line<F>): void {
    this.#file.append(new TextEncoder().encode(this.#row(line)));
  }

  #row(line: Line<F>): string {
    return csvLine(this.fields.map((name) => line[name] ?? null));
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
