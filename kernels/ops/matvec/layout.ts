/**
 * How a product of one to eight rows (matvec.ts) is laid out over threads: a function of its size and the device.
 *
 * @module
 */
import type { DeviceProfile } from "../../gpu/device_profile.ts";
import { roundUp } from "../../gpu/tensor.ts";
import type { RowLoadWidth } from "../weights/kind.ts";

/** How a product is laid out over threads. */
export type MatvecLayout = {
  /** One round of loads covers K: threads · steps · wide ≥ K. */
  whole: boolean;
  threads: number;
  /** Loads of a row of B that a thread has under way at once. */
  steps: number;
  /** Columns of C that a workgroup makes at once, a group: 2, 4 or 8. */
  outputs: number;
  /** Weights of one load. */
  wide: RowLoadWidth;
  /** Workgroups, each of which takes every grid-th group; 0: a workgroup for every group. */
  grid: number;
  /** With a grid: the next group's weights are asked for before these are multiplied, not after. */
  ahead: boolean;
  /** Threads of a subgroup at least, where subgroup functions add up; 0: without them. */
  subgroup: number;
};

/** What is decided already; what is left out is chosen by size. */
export type MatvecGeometry = Partial<MatvecLayout>;

/** A device as far as layouts depend on it. */
export type MatvecDevice = Pick<
  DeviceProfile,
  "processors" | "subgroup" | "workgroupThreads" | "workgroupBytes"
>;

/** The size of a product, and what else its layout depends on. */
export interface MatvecSize {
  m: number;
  n: number;
  k: number;
  /** Numbers of weights of B that may be one load, the largest first. */
  widths: readonly RowLoadWidth[];
  /** Weights are codes, to be unpacked. */
  coded?: boolean;
  /** Bytes of workgroup memory that tables of codes take. Default 0. */
  tables?: number;
  /** A is attention's result as KV splits. */
  splitInput?: boolean;
  /** Half of the columns are gates of the others. */
  swiglu?: boolean;
  /** Columns of C are stored in pairs. */
  paired?: boolean;
}

/** Most rows of A that threads keep in registers: more cost what they save. */
const WHOLE_ROWS = 2;
/** From so many columns on workgroups of four are enough to fill a GPU without a grid. */
const MANY_COLUMNS = 8192;
/** Threads of a grid for each processor at most: with weights asked for ahead, and without. */
const THREADS_AHEAD = 512, THREADS_BEHIND = 1024;
/**
 * Registers of a processor, and those of a thread beside its weights and its input, about. Workgroups of a grid that
 * have to wait for others to end would double its time.
 */
const REGISTERS = 65536, OTHER_REGISTERS = 24;
/**
 * Workgroups of a grid for each processor where weights are codes. Unpacking these takes long programs, which each
 * launch reads anew: with 8 columns instead of 4, a block of 7B took 136 µs instead of 92 in nf4 on an H200, though the
 * same product again and again took no longer.
 */
const WORKGROUPS_CODED = 4;

/**
 * The same where codes are looked up in a table, which is work enough for few threads: of these numbers the one whose
 * rounds are fullest.
 */
const WORKGROUPS_LOOKUPS = [3, 2];

/** Workgroups for each processor of these with which so many groups leave the fewest idle in the last round. */
function fullestRounds(groups: number, processors: number): number {
  const places = (perProcessor: number) => {
    const round = perProcessor * processors;
    return Math.ceil(groups / round) * round;
  };
  return WORKGROUPS_LOOKUPS.reduce((best, other) => places(other) < places(best) ? other : best);
}

/** The most values of a row of k that may be one load. */
function widestOf(widths: readonly RowLoadWidth[], k: number): RowLoadWidth {
  return widths.find((width) => k % width === 0) ?? 4;
}

/** The most threads, a power of two, whose partial sums of so many values fit workgroup memory without subgroups. */
function mostThreads({ workgroupBytes }: MatvecDevice, values: number, tables: number): number {
  return 2 ** Math.floor(Math.log2((workgroupBytes - tables) / (4 * values)));
}

/**
 * What was fastest on an H100 (one row of LLaMA-2 7B: 161 µs a block with grids, 169 µs without) and, where weights are
 * codes, on an H200.
 */
export function matvecLayout(
  device: MatvecDevice,
  size: MatvecSize,
  given: MatvecGeometry = {},
): MatvecLayout {
  const { m, n, k, widths, coded = false, tables = 0 } = size;
  const { splitInput = false, swiglu = false, paired = false } = size;
  const { whole = m <= WHOLE_ROWS, subgroup = device.subgroup } = given;
  if (!whole) {
    const { wide = widestOf(widths, k) } = given;
    const { outputs = 4, steps = 2 } = given;
    const fitting = subgroup > 0 ? 128 : Math.min(128, mostThreads(device, m * outputs, tables));
    const { threads = fitting } = given;
    return { outputs, steps, threads, whole, wide, grid: 0, ahead: false, subgroup };
  }
  const lookups = tables > 0;
  const gridded = m === 1;
  const four = coded || splitInput || (swiglu && (paired || !gridded)) ||
    (!gridded && n >= MANY_COLUMNS);
  const {
    wide = widestOf(widths, k),
    // Every workgroup combines the KV splits: there should be few workgroups, of many threads.
    steps: target = splitInput || lookups ? 1 : coded || (gridded && four) ? 2 : 4,
    outputs = four ? 4 : 2,
    ahead = !splitInput && (!coded || lookups),
  } = given;
  const vectors = k / wide;
  // Sums of two groups of a grid, and of the rows' squares.
  const most = subgroup > 0 ? device.workgroupThreads : Math.min(
    device.workgroupThreads,
    mostThreads(device, (gridded ? 2 : 1) * m * outputs + m, tables),
  );
  // Without subgroups sums are made by a tree over halves, of a power of two threads.
  const rounded = (count: number) =>
    subgroup > 0 ? roundUp(count, 32) : Math.max(32, 2 ** Math.ceil(Math.log2(count)));
  const each = Math.ceil(vectors / Math.max(target, Math.ceil(vectors / most)));
  const threads = Math.min(most, rounded(each)), steps = Math.ceil(vectors / threads);
  // A load of weights takes four registers.
  const registers = 4 * outputs * steps * (ahead ? 2 : 1) + steps * wide + OTHER_REGISTERS;
  const perProcessor = lookups
    ? fullestRounds(n / outputs, device.processors)
    : coded
    ? WORKGROUPS_CODED
    : Math.min(
      Math.ceil((ahead ? THREADS_AHEAD : THREADS_BEHIND) / threads),
      Math.max(1, Math.floor(REGISTERS / (threads * registers))),
    );
  const full = device.processors * perProcessor;
  const { grid: workgroups = gridded ? full : 0 } = given;
  const grid = workgroups < n / outputs ? workgroups : 0;
  return { whole, threads, steps, outputs, wide, grid, ahead: grid > 0 && ahead, subgroup };
}
