/**
 * How attention is cut into tiles, by pure functions.
 *
 * A workgroup owns `rows` rows of one side (queries, or keys in their gradient) and walks over the
 * other side `columns` at a time. Each thread holds `scoreRows` × `scoreColumns` scores of a tile, and
 * `sumRows` rows by `sumPairs` pairs of vectors of a sum weighted by scores.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import { bytesOf, type Dtype } from "../../../gpu/tensor.ts";
import { softcapUniform } from "../../../wgsl/softcap.ts";

/** The shape of a tile, and how it is shared out. */
export interface TileShape {
  /** Rows of the workgroup's own side, and of the other side in one tile. */
  rows: number;
  columns: number;
  /** Rows and columns of one thread's scores. */
  scoreRows: number;
  scoreColumns: number;
  /** Rows of one thread's part of a weighted sum. */
  sumRows: number;
}

/** What a program is generated from. */
export interface AttentionPlan extends TileShape {
  threads: number;
  /** Threads side by side along a tile's columns. */
  lanes: number;
  /** Vectors of four in a head row, and pairs of them: vectors p and p + pairs. */
  vectors: number;
  pairs: number;
  /** Pairs of a head row held at a time, and how many such pieces make a row. */
  chunk: number;
  chunks: number;
  /** Threads side by side along a head row in a weighted sum, and pairs of a thread in each piece. */
  sumLanes: number;
  sumPairs: number;
  /** What head rows are held in. */
  stage: "f32" | "f16";
  /** Products and short sums in f16, of part of a head row in scores, of a tile in weighted sums. */
  f16Sums: boolean;
  /**
   * Write inner loops out, which GPUs run faster. Otherwise they stay loops, which a software driver
   * compiles many times faster; `u.most`, larger than any count, keeps it from unrolling them itself.
   */
  unroll: boolean;
}

/** What a tile shape is completed with. */
export interface PlanOptions {
  headDim: number;
  /** Pairs of a head row held at a time at most. */
  chunk: number;
  stage: "f32" | "f16";
  f16Sums: boolean;
  unroll: boolean;
}

/** Completes a tile shape. */
function completePlan(shape: TileShape, options: PlanOptions): AttentionPlan {
  const { headDim, stage, f16Sums, unroll } = options;
  if (!Number.isInteger(headDim / 4) || headDim < 4 || headDim > 256) {
    throw new Error(`attention: head_dim ${headDim} is not a multiple of 4 from 4 to 256`);
  }
  const { rows, columns, scoreRows, scoreColumns, sumRows } = shape;
  const vectors = headDim / 4, pairs = Math.ceil(vectors / 2);
  const chunks = Math.ceil(pairs / options.chunk), chunk = Math.ceil(pairs / chunks);
  const lanes = columns / scoreColumns, threads = rows / scoreRows * lanes;
  // As many lanes as threads and pairs allow.
  const groups = rows / sumRows;
  let sumLanes = 1;
  while (sumLanes < chunk && 2 * sumLanes * groups <= threads) sumLanes *= 2;
  return {
    ...shape,
    threads,
    lanes,
    vectors,
    pairs,
    chunk,
    chunks,
    sumLanes,
    sumPairs: Math.ceil(chunk / sumLanes),
    stage,
    f16Sums,
    unroll,
  };
}

/** Bytes of workgroup memory that a plan's program takes. */
export function workgroupBytes(plan: AttentionPlan, kind: AttentionKind): number {
  const { rows, columns, scoreRows, scoreColumns, sumRows, lanes, threads } = plan;
  const pair = plan.stage === "f16" ? 16 : 32, vector = scoreRows % 4 || sumRows % 4 ? 2 : 4;
  const own = scoreRows * plan.chunk * ((rows / scoreRows) | 1) * pair;
  const other = scoreColumns * plan.chunk * (lanes | 1) * pair;
  const padded = vector * ((rows / vector) | 1),
    weights = columns * padded * (plan.f16Sums ? 2 : 4);
  if (kind === "forward") return own + other + weights + (lanes * padded + rows) * 4;
  return 2 * (own + other + weights) + (threads + Math.max(rows, columns)) * 4;
}

/** Shapes by their rows × columns, and by their threads where two are equal in these. */
const SHAPES = {
  "64x32": { rows: 64, columns: 32, scoreRows: 4, scoreColumns: 4, sumRows: 8 },
  "32x32": { rows: 32, columns: 32, scoreRows: 4, scoreColumns: 2, sumRows: 4 },
  "32x32_256": { rows: 32, columns: 32, scoreRows: 2, scoreColumns: 2, sumRows: 2 },
  "16x32": { rows: 16, columns: 32, scoreRows: 2, scoreColumns: 2, sumRows: 2 },
} satisfies Record<string, TileShape>;

/** A shape's name. */
export type ShapeName = keyof typeof SHAPES;

/** The names of all shapes. */
export const SHAPE_NAMES = Object.keys(SHAPES) as ShapeName[];

/** What a program computes. */
export type AttentionKind = "forward" | "backward";

/** What a plan is made from: entries of a program's key. */
export interface PlanKey extends PlanOptions {
  shape: ShapeName;
  chunk: number;
}

/** The plan of a key. */
export function keyedPlan({ shape, ...options }: PlanKey): AttentionPlan {
  return completePlan(SHAPES[shape], options);
}

/** What a plan is chosen for. */
export interface PlanWish {
  /** Keys of a query, on average. */
  keys: number;
  headDim: number;
  /** Dtypes of what is read. */
  dtypes: readonly Dtype[];
  /** Operands may be rounded to f16. */
  f16Operands?: boolean;
  /** The same, and short sums may be f16. */
  f16Sums?: boolean;
  unroll: boolean;
  /** Bytes of workgroup memory there are. */
  limit: number;
  /** Take this shape. */
  shape?: ShapeName;
}

/** Fewer keys a query than this take tiles of 16 queries: more workgroups, and less of each masked. */
const MANY_KEYS = 128;

/**
 * The shapes to try, best first. In µs on an H100 with 32 heads of 128, for one document of 121 tokens,
 * eight of 121 on average, one of 1,024, f16:
 *  - forward, sums in f16: 16x32 12, 61, 271; 32x32 14, 64, 240; 64x32 20, 92, 276;
 *  - forward, sums in f32: 16x32 15, 93, 437; 32x32 18, 114, 463; 64x32 27, 125, 391;
 *  - backward, sums in f16: 32x32_256 31, 296, 1253; 32x32 34, 323, 1360; 16x32 49, 448, 2191;
 *  - backward, sums in f32: 32x32_256 43, 414, 1827; 32x32 47, 442, 1917; 16x32 61, 559, 2852;
 * and f32, for documents of 121 and 405: forward 32x32 17, 82; 16x32 17, 119; backward, where head
 * rows are held in two pieces, 32x32 61, 474; 32x32_256 62, 491; 16x32 83, 716.
 */
function preference(
  kind: AttentionKind,
  { stage, f16Sums, keys }: { stage: "f32" | "f16"; f16Sums: boolean; keys: number },
): ShapeName[] {
  if (kind === "backward") return stage === "f16" ? ["32x32_256", "16x32"] : ["32x32"];
  if (stage === "f32") return ["32x32", "16x32"];
  if (keys < MANY_KEYS) return ["16x32"];
  return f16Sums ? ["32x32", "16x32"] : ["64x32", "32x32", "16x32"];
}

/** The plan: the first shape that holds whole head rows within the limit, or else with pieces of them. */
export function choosePlan(kind: AttentionKind, wish: PlanWish): PlanKey {
  const { keys, headDim, dtypes, f16Operands = false, f16Sums = false, unroll, limit } = wish;
  const stage = f16Operands || f16Sums || dtypes.every((dtype) => dtype === "f16") ? "f16" : "f32";
  const names = wish.shape === undefined
    ? preference(kind, { stage, f16Sums, keys })
    : [wish.shape];
  for (let chunk = Math.ceil(headDim / 8);; chunk = Math.ceil(chunk / 2)) {
    for (const name of names) {
      const key: PlanKey = { shape: name, headDim, chunk, stage, f16Sums, unroll };
      if (workgroupBytes(keyedPlan(key), kind) <= limit) return key;
    }
    if (chunk === 1) throw new Error(`attention: ${limit} bytes of workgroup memory are too few`);
  }
}

/** What a device adds to a wish. Loops for software drivers have no sums in f16. */
export function deviceWish(
  gpu: Pick<Gpu, "device" | "extensions" | "software">,
  { f16Operands, f16Sums, unroll = !gpu.software }: Pick<
    AttentionOptions,
    "f16Operands" | "f16Sums" | "unroll"
  >,
): Pick<PlanWish, "f16Operands" | "f16Sums" | "unroll" | "limit"> {
  return {
    f16Operands,
    f16Sums: f16Sums && unroll && gpu.extensions.has("f16"),
    unroll,
    limit: gpu.device.limits.maxComputeWorkgroupStorageSize,
  };
}

/** Sizes and options of attention, forward and backward. */
export interface AttentionOptions {
  /** Queries, and in the backward as many keys. */
  rows: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** What scores are multiplied with. Default 1/√headDim. */
  scale?: number;
  /** What they are then capped to (softcap.ts); null, the default, where they are not. */
  softcap?: number | null;
  /** Operands may be rounded to f16. */
  f16Operands?: boolean;
  /** The same, and sums over short ranges may be f16. */
  f16Sums?: boolean;
  /** Query–key pairs attended, for the profile's cost; one causal document by default. */
  pairs?: number;
  /** Write inner loops out, which a GPU runs faster and a software driver compiles slowly. */
  unroll?: boolean;
  /** Take the programs for software drivers. */
  unstaged?: boolean;
  /** Take tiles of this shape. */
  shape?: ShapeName;
  /**
   * With `f16Operands` or `f16Sums`, take the programs for subgroup matrices where there are such and sizes suit them: the
   * default on tensor cores (docs/performance.md says what they gain).
   */
  matrices?: boolean;
}

/** The uniforms of every program with tiles. */
export function attentionUniforms(
  { unroll }: AttentionPlan,
  softcap: boolean,
): Record<string, "u32" | "f32"> {
  const sizes = {
    rows: "u32",
    heads: "u32",
    kv_heads: "u32",
    scale: "f32",
    ...softcapUniform(softcap),
  } as const;
  return unroll ? sizes : { ...sizes, most: "u32" };
}

/** The default factor of scores. */
export function defaultScale(headDim: number): number {
  return 1 / Math.sqrt(headDim);
}

/** Values of {@linkcode attentionUniforms}. */
export function uniformValues(
  { rows, heads, kvHeads, headDim, scale = defaultScale(headDim), softcap }: AttentionOptions,
): Record<string, number> {
  return { rows, heads, kv_heads: kvHeads, scale, softcap: softcap ?? 0, most: 0xffffffff };
}

/** Bytes of `rows` rows of `heads` heads. */
export function headBytes(dtype: Dtype, rows: number, heads: number, headDim: number): number {
  return rows * heads * headDim * bytesOf(dtype);
}
