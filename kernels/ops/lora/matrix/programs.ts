/**
 * The programs of LoRA adapters on subgroup matrices: which products make up a launch, with its bindings and uniforms.
 * They take the tensors and uniforms of those without matrices (../programs.ts); x and dy are f16.
 *
 * @module
 */
import { type Binding, programFamily, reads, writes } from "../../../gpu/program.ts";
import type { Dtype } from "../../../gpu/tensor.ts";
import { KEEP_MASK } from "../../../wgsl/dropout.ts";
import { counted, xUniforms, yUniforms } from "../programs.ts";
import { down, downWords } from "./down.ts";
import { gradients, gradientWords } from "./gradients.ts";
import {
  type DownTile,
  type GradientTile,
  KEEP_WORD,
  type MatrixPlan,
  matrixPlan,
  type RankTile,
  type UpTile,
  wordsMemory,
} from "./plan.ts";
import { inputGradient, inputGradientWords } from "./input_gradient.ts";

/** What the programs depend on besides the dtypes of their tensors. */
type Modules = { modules: number } & RankTile;

/** f16 in words of eight. */
const readsWords = (name: string): Binding => ({ name, dtype: "f16", access: "read", words: 4 });

/** The functions of a launch, and the code that runs those of a tile. */
function bodyOf(
  { matrix, threads }: Pick<MatrixPlan<unknown>, "matrix" | "threads">,
  { words, functions, run }: { words: number[]; functions: string[]; run: string },
): string {
  return `${matrix.declare}${wordsMemory(Math.max(...words))}${functions.join("")}
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let tile = group.y * groups.x + group.x;
  if (tile >= u.tiles) { return; }
  ${run}
}`;
}

/** loraHidden of every module. */
export const matrixDown = programFamily(
  "lora_down_matrices",
  ({ a, modules, drop, ...tiles }: { a: Dtype; drop: boolean } & Modules & DownTile) => {
    const plan = matrixPlan(tiles), side = { of: "a", drop } as const;
    return {
      bindings: [
        readsWords("x"),
        ...counted(modules, (m) => reads(a, `a${m}`)),
        ...writes("f32", "loraHidden"),
      ],
      uniforms: { ...xUniforms(modules), tiles: "u32" },
      extensions: plan.matrix.extensions,
      body: bodyOf(plan, {
        words: [downWords(plan, side)],
        functions: [drop ? KEEP_MASK + KEEP_WORD : "", down(plan, modules, side)],
        run: "down(tile, thread, subgroup);",
      }),
    };
  },
);

/** loraHiddenGrad and gradB, which read dy. */
export const matrixBackwardY = programFamily(
  "lora_backward_b_matrices",
  ({ b, withLoraHiddenGrad, withGradB, modules, ...tiles }:
    & {
      b: Dtype;
      withLoraHiddenGrad: boolean;
      withGradB: boolean;
    }
    & Modules
    & DownTile
    & GradientTile) => {
    const plan = matrixPlan(tiles), side = { of: "b" } as const;
    const gradB = "gradients(tile - u.downTiles, thread, subgroup);";
    return {
      bindings: [
        readsWords("dy"),
        ...withGradB ? reads("f32", "loraHidden") : [],
        ...withLoraHiddenGrad ? counted(modules, (m) => reads(b, `b${m}`)) : [],
        ...withLoraHiddenGrad ? writes("f32", "loraHiddenGrad") : [],
        ...withGradB ? counted(modules, (m) => writes("f32", `gradB${m}`)) : [],
      ],
      uniforms: {
        ...yUniforms(modules),
        dyStride: "u32",
        downTiles: "u32",
        columnTiles: "u32",
        tiles: "u32",
      },
      extensions: plan.matrix.extensions,
      body: bodyOf(plan, {
        words: [
          withLoraHiddenGrad ? downWords(plan, side) : 0,
          withGradB ? gradientWords(plan, side) : 0,
        ],
        functions: [
          withLoraHiddenGrad ? down(plan, modules, side) : "",
          withGradB ? gradients(plan, modules, side) : "",
        ],
        run: withLoraHiddenGrad
          ? `if (tile < u.downTiles) { down(tile, thread, subgroup); }${
            withGradB ? ` else { ${gradB} }` : ""
          }`
          : gradB,
      }),
    };
  },
);

/** gradA and dx, which read loraHiddenGrad. */
export const matrixBackwardX = programFamily(
  "lora_backward_a_matrices",
  ({ a, dx, withGradA, accumulate, modules, drop, ...tiles }:
    & {
      a: Dtype;
      dx: Dtype | "none";
      withGradA: boolean;
      accumulate: boolean;
      drop: boolean;
    }
    & Modules
    & GradientTile
    & UpTile) => {
    const plan = matrixPlan(tiles), side = { of: "a", drop } as const, withDx = dx !== "none";
    return {
      bindings: [
        ...withGradA ? [readsWords("x")] : [],
        ...reads("f32", "loraHiddenGrad"),
        ...withDx ? counted(modules, (m) => reads(a, `a${m}`)) : [],
        ...withGradA ? counted(modules, (m) => writes("f32", `gradA${m}`)) : [],
        ...withDx ? writes(dx, "dx") : [],
      ],
      uniforms: {
        ...xUniforms(modules),
        columnTiles: "u32",
        gradTiles: "u32",
        upTiles: "u32",
        dxFrom: "u32",
        tiles: "u32",
      },
      extensions: plan.matrix.extensions,
      body: bodyOf(plan, {
        words: [
          withGradA ? gradientWords(plan, side) : 0,
          withDx ? inputGradientWords(plan) : 0,
        ],
        functions: [
          drop ? KEEP_MASK + KEEP_WORD : "",
          withGradA ? gradients(plan, modules, side) : "",
          withDx ? inputGradient(plan, modules, { drop, accumulate }) : "",
        ],
        run: `${
          withGradA ? "if (tile < u.gradTiles) { gradients(tile, thread, subgroup); return; }" : ""
        }
  ${
          withDx
            ? `let up = tile - u.gradTiles;
  inputGradient(up % u.upTiles, up / u.upTiles, thread, subgroup);`
            : ""
        }`,
      }),
    };
  },
);
