/**
 * Table 2's rows by Lorikeet and by PyTorch in turn, each in a process of its own, and how many times as much PyTorch
 * takes.
 *
 * @module
 */
import { present } from "../../../kernels/present.ts";
import { UsageError } from "../../../kernels/errors.ts";
import { ProgressBar } from "../../../cli/progress.ts";
import { type Measurements, VERSION } from "../measurements.ts";
import {
  type Combination,
  combinationRows,
  combinations,
  describe,
  nameOf,
  planTable2,
  providersOf,
  type Table2,
  type Table2Row,
  type Table2Settings,
} from "../table2.ts";
import { Torch, type TorchDevice, type TorchInfo, type TorchRow, writeSubject } from "./torch.ts";

/** Which runs, and by which Python. */
export interface PeersSettings extends Table2Settings {
  /** The program that has PyTorch. */
  python: string;
  /** Only rows whose name has this text. */
  only?: string;
}

/** One combination by both. */
export interface PeersRow extends Combination {
  lorikeet: Omit<Table2Row, keyof Combination>;
  /** Absent where it was not tried, as Lorikeet's plan says that the run does not fit and is trusted. */
  torch?: TorchRow;
  /** PyTorch's seconds and peak over Lorikeet's: above 1 Lorikeet takes less. Absent unless both fit. */
  time_ratio?: number;
  memory_ratio?: number;
}

/** The rows, and what they were measured with. */
export interface Peers extends Omit<Table2, "rows"> {
  torch: TorchInfo & { device: TorchDevice };
  rows: PeersRow[];
}

const ratio = (theirs: number | undefined, ours: number | undefined) =>
  theirs === undefined || ours === undefined ? undefined : theirs / ours;

/** Both sides of a combination. */
export function compare(row: Table2Row, torch: TorchRow | undefined): PeersRow {
  const { gradient_accumulation, mixed_precision, lora, checkpointing, optimizer, ...lorikeet } =
    row;
  return {
    gradient_accumulation,
    mixed_precision,
    lora,
    checkpointing,
    optimizer,
    lorikeet,
    torch,
    time_ratio: ratio(torch?.runtime_s, row.runtime_s),
    memory_ratio: ratio(torch?.peak_memory_mb, row.peak_memory_mb),
  };
}

/** The combinations whose names have this text. @throws {UserError} where there is none. */
function chosen(optimizer: Combination["optimizer"], only = ""): Combination[] {
  const all = combinations(optimizer), some = all.filter((row) => nameOf(row).includes(only));
  if (some.length > 0) return some;
  throw new UsageError(
    `--only is "${only}"; expected a part of a row's name such as ${nameOf(all[0])}`,
  );
}

/**
 * Measures what the folder does not hold yet; rows that `bench table2` left there are taken from it.
 *
 * @throws {UserError} where there is no PyTorch, or a run fails other than for want of memory.
 */
export async function peers(
  measurements: Measurements,
  settings: PeersSettings,
): Promise<Peers> {
  const planned = chosen(settings.optimizer, settings.only);
  const plan = planTable2(measurements.device, settings), { device, model } = plan;
  const torch = await Torch.find(settings.python, measurements);
  const subject = await writeSubject(measurements.folder, settings, plan, torch.device);
  const ours: Table2Row[] = [], rows: PeersRow[] = [];
  const bar = new ProgressBar("Rows", planned.length);
  let tokens: number | undefined;
  for (const [i, combination] of planned.entries()) {
    for await (const { row, run } of combinationRows(measurements, combination, plan)) {
      // What the plan alone refuses was tried by nobody.
      const tried = row.refused_by !== "plan";
      const theirs = tried ? await torch.row(subject, row) : undefined;
      ours.push(row);
      rows.push(compare(row, theirs));
      tokens ??= run?.tokens;
    }
    const { lorikeet, torch: theirs } = present(rows.at(-1), "row of the combination");
    bar.update(i + 1, `${describe(lorikeet)}; PyTorch ${theirs ? describe(theirs) : "not tried"}`);
  }
  return {
    model,
    samples: settings.samples,
    tokens,
    gpu: device.gpu,
    device,
    provider: providersOf(ours, device),
    lorikeet: VERSION,
    torch: { ...torch.info, device: torch.device },
    rows,
  };
}
