/**
 * All files that the metrics of a run go to: metrics.jsonl and evaluations.jsonl, and what is made of their lines.
 *
 * @module
 */
import { noteLine } from "../../kernels/terminal.ts";
import type { FigureName } from "../objective/objective.ts";
import { LineFile } from "../run/line_file.ts";
import type { RunFolder } from "../run/run_folder.ts";
import { CsvFile } from "./csv_file.ts";
import { EventFile } from "./event_file.ts";
import { EVALUATION_FIELDS, type EvaluationLine, type MetricsLine, STEP_FIELDS } from "./lines.ts";
import { RetriedWrites } from "./retried_writes.ts";
import { evaluationScalars, evaluationTexts, stepScalars } from "./tensorboard.ts";

/** Which files there are. */
export interface MetricsOptions {
  /** metrics.csv and evaluations.csv. */
  csv: boolean;
  /** Event files in tensorboard/. */
  tensorboard: boolean;
  /** Whether the run is evaluated. */
  evaluates: boolean;
  /** The step that the run goes on from; what the files tell of later ones is cut off. */
  step: number;
  /** What the objective tells of a step beside its loss. */
  figures: readonly FigureName[];
  /** The most GPU memory that the run has taken so far, in MB. */
  peakMemoryMb: () => number;
}

/** The files of metrics of a run under way. What can't be written is tried again later, and ends no run. */
export class MetricsFiles implements Disposable {
  /** What evaluations.jsonl says of the step that the run goes on from, where it was evaluated there. */
  readonly evaluated?: EvaluationLine;
  readonly #open: Disposable[] = [];
  readonly #steps: RetriedWrites<MetricsLine>[] = [];
  readonly #evaluations: RetriedWrites<EvaluationLine>[] = [];

  /** @throws {UserError} where a file can't be written or read from the start. */
  constructor(folder: RunFolder, options: MetricsOptions) {
    try {
      this.evaluated = this.#openAll(folder, options);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #openAll(folder: RunFolder, options: MetricsOptions): EvaluationLine | undefined {
    const { csv, tensorboard, evaluates, step, figures, peakMemoryMb } = options;
    let evaluated: EvaluationLine | undefined;
    const metrics = this.#keep(new LineFile(folder.file("metrics"), step));
    const last = metrics.last?.step ?? 0;
    // A run of its own from another's state has no lines from before.
    if (folder.existed && last < step) {
      const what = `${metrics.path} ends with step ${last}`;
      noteLine(`${what}, and the state is of step ${step}: lines are missing.`);
    } else if (metrics.hasGap) {
      noteLine(`${metrics.path} has no line of some steps before step ${last}: lines are missing.`);
    }
    this.#steps.push(new RetriedWrites(metrics.path, (line) => metrics.write({ ...line })));
    if (evaluates) {
      const file = this.#keep(new LineFile(folder.file("evaluations"), step));
      if (file.last?.step === step) evaluated = file.last as unknown as EvaluationLine;
      this.#evaluations.push(new RetriedWrites(file.path, (line) => file.write({ ...line })));
    }
    if (csv) {
      const file = this.#keep(
        new CsvFile(folder.file("csv"), [...STEP_FIELDS, ...figures], metrics.path),
      );
      this.#steps.push(new RetriedWrites(file.path, (line) => file.write(line)));
    }
    if (csv && evaluates) {
      const [path, from] = [folder.file("evaluationsCsv"), folder.file("evaluations")];
      const file = this.#keep(new CsvFile(path, [...EVALUATION_FIELDS, ...figures], from));
      this.#evaluations.push(new RetriedWrites(path, (line) => file.write(line)));
    }
    if (tensorboard) {
      const file = this.#keep(new EventFile(folder.file("tensorboard"), step));
      this.#steps.push(
        new RetriedWrites(
          file.path,
          (line) => file.write(line.step, stepScalars(line, peakMemoryMb(), figures)),
        ),
      );
      const write = (line: EvaluationLine) =>
        file.write(line.step, evaluationScalars(line, figures), evaluationTexts(line));
      this.#evaluations.push(new RetriedWrites(file.path, write));
    }
    return evaluated;
  }

  #keep<T extends Disposable>(file: T): T {
    this.#open.push(file);
    return file;
  }

  /** Adds a step. */
  step(line: MetricsLine): void {
    for (const file of this.#steps) file.add(line);
  }

  /** Adds an evaluation. */
  evaluation(line: EvaluationLine): void {
    for (const file of this.#evaluations) file.add(line);
  }

  /**
   * Tries once more to write what could not be written.
   *
   * @throws {UserError} that says what is missing.
   */
  end(): void {
    for (const file of [...this.#steps, ...this.#evaluations]) file.end();
  }

  [Symbol.dispose](): void {
    for (const file of this.#open.splice(0)) file[Symbol.dispose]();
  }
}
