/**
 * How the course's table 2 is shown: in the course's layout and with a line for each run.
 *
 * @module
 */
import type { Table2, Table2Row } from "./table2.ts";
import { tableLines } from "../text_table.ts";

const CROSS = "×", SWITCHED = ["OFF", "ON"];
/** `ON` or `OFF`. */
export const switched = (on: boolean): string => SWITCHED[Number(on)];
/** A number, or × where there is none. */
export const number = (value: number | undefined, digits: number): string =>
  value?.toFixed(digits) ?? CROSS;

/** The course's layout: a column for each combination, for one checkpointing mode. */
export function courseRows(rows: readonly Table2Row[]): string[][] {
  const columns = rows.filter(({ optimizer }) => optimizer === rows[0].optimizer);
  const lines = [
    ["GA", ...columns.map((row) => switched(row.gradient_accumulation))],
    ["MP", ...columns.map((row) => switched(row.mixed_precision))],
    ["LoRA", ...columns.map((row) => switched(row.lora))],
    ["Peak Mem (MB)", ...columns.map((row) => number(row.peak_memory_mb, 1))],
    ["Runtime (s)", ...columns.map((row) => number(row.runtime_s, 2))],
  ];
  if (columns.length === rows.length) return lines;
  const again = columns.map((column) => rows[rows.indexOf(column) + (column.fits ? 0 : 1)]);
  const shown = (field: "peak_memory_mb" | "runtime_s", digits: number) =>
    again.map((row, i) => row === columns[i] ? "" : number(row[field], digits));
  lines.push(["Needed (MB)", ...columns.map((row) => row.fits ? "" : number(row.planned_mb, 1))]);
  lines.push(["Peak Mem with SGD (MB)", ...shown("peak_memory_mb", 1)]);
  lines.push(["Runtime with SGD (s)", ...shown("runtime_s", 2)]);
  return lines;
}

/** One line a row. */
export function longRows(rows: readonly Table2Row[]): string[][] {
  const fit = (row: Table2Row) => row.fits ? "yes" : `no (${row.refused_by})`;
  return [
    [
      "GA",
      "MP",
      "LoRA",
      "checkpointing",
      "optimizer",
      "fits",
      "planned (MB)",
      "peak (MB)",
      "nvidia-smi (MB)",
      "runtime (s)",
      "tokens/s",
      "first loss",
      "last loss",
    ],
    ...rows.map((row) => [
      ...[row.gradient_accumulation, row.mixed_precision, row.lora].map(switched),
      row.checkpointing,
      row.optimizer,
      fit(row),
      number(row.planned_mb, 1),
      number(row.peak_memory_mb, 1),
      row.nvidia_smi_mb?.toFixed(0) ?? "",
      number(row.runtime_s, 2),
      number(row.tokens_per_second, 0),
      number(row.first_loss, 4),
      number(row.last_loss, 4),
    ]),
  ];
}

/** The table in the course's layout, for both checkpointing modes, then a line for each run. */
export function table2Lines(table: Table2, markdown: boolean): string[] {
  const { model, samples, tokens, gpu, provider, lorikeet, rows } = table;
  const lines = [
    `${model}, ${samples} samples${
      tokens === undefined ? "" : ` of ${tokens} tokens`
    }, batch 1, on ` +
    `${gpu} (${provider}), Lorikeet ${lorikeet}`,
  ];
  for (const mode of ["none", "block"]) {
    const part = rows.filter(({ checkpointing }) => checkpointing === mode);
    lines.push("", `Gradient checkpointing ${mode === "none" ? "off" : "on, every block"}:`, "");
    lines.push(...tableLines(courseRows(part), markdown));
  }
  return [...lines, "", "All runs:", "", ...tableLines(longRows(rows), markdown)];
}

/** The same in Markdown. */
export function markdown(table: Table2): string {
  return table2Lines(table, true).join("\n");
}
