/**
 * The programs of LoRA adapters (lora.ts): which products make up a launch, with its bindings and uniforms.
 *
 * @module
 */
import { KEEP_MASK, MASK_UNIFORMS } from "../../wgsl/dropout.ts";
import {
  type Binding,
  programFamily,
  type ProgramSource,
  reads,
  writes,
  writesScalars,
} from "../../gpu/program.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import { downDy, downX } from "./down.ts";
import { gradients } from "./gradients.ts";
import { partialsMemory } from "./snippets.ts";
import { LORA_TILES, type LoraTileKind } from "./tiles.ts";
import { upX, upY } from "./up.ts";

/** Bindings of every module. */
export const counted = (count: number, make: (m: number) => Binding[]): Binding[] =>
  Array.from({ length: count }, (_, m) => make(m)).flat();

/** Uniforms of each module under their name and its number. */
export function numbered<V>(
  count: number,
  fields: Record<string, (m: number) => V>,
): Record<string, V> {
  const pairs = Array.from(
    { length: count },
    (_, m) => Object.entries(fields).map(([name, value]) => [`${name}${m}`, value(m)] as const),
  );
  return Object.fromEntries(pairs.flat());
}

type Uniforms = ProgramSource["uniforms"];

/** Uniforms of the side of x, and of the side of y. */
export const xUniforms = (modules: number): Uniforms => ({
  rows: "u32",
  rank: "u32",
  width: "u32",
  factor: "f32",
  ...MASK_UNIFORMS,
  ...numbered<"u32" | "f32">(modules, { subsequence: () => "u32" }),
});
export const yUniforms = (modules: number): Uniforms => ({
  rows: "u32",
  rank: "u32",
  ...numbered<"u32" | "f32">(modules, {
    from: () => "u32",
    width: () => "u32",
    scale: () => "f32",
  }),
});

/** The tile of a workgroup in a grid that may have two dimensions. */
const MAIN = (threads: number, body: string) => `
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let tile = group.y * groups.x + group.x;
  if (tile >= u.tiles) { return; }
  ${body}
}`;

/** What the programs depend on besides the dtypes of their tensors. */
type Modules = {
  modules: number;
  tileKind: LoraTileKind;
};

/** loraHidden of every module. */
export const down = programFamily(
  "lora_down",
  ({ x, a, modules, drop, tileKind }: { x: Dtype; a: Dtype; drop: boolean } & Modules) => {
    const tiles = LORA_TILES[tileKind];
    return {
      bindings: [
        ...reads(x, "x"),
        ...counted(modules, (m) => reads(a, `a${m}`)),
        ...writesScalars("f32", "loraHidden"),
      ],
      uniforms: { ...xUniforms(modules), tiles: "u32" },
      body: partialsMemory(tiles) + (drop ? KEEP_MASK : "") + downX(tiles, modules, drop) +
        MAIN(tiles.threads, "downX(tile, thread);"),
    };
  },
);

/** The modules' part of y. */
export const up = programFamily(
  "lora_up",
  ({ b, y, modules, tileKind }: { b: Dtype; y: Dtype } & Modules) => {
    const tiles = LORA_TILES[tileKind];
    return {
      bindings: [
        ...reads("f32", "loraHidden"),
        ...counted(modules, (m) => reads(b, `b${m}`)),
        ...writes(y, "y"),
      ],
      uniforms: {
        ...yUniforms(modules),
        yStride: "u32",
        columnTiles: "u32",
        rowTiles: "u32",
        tiles: "u32",
      },
      body: upY(tiles, modules) + MAIN(
        tiles.threads,
        "upY(tile % u.columnTiles, tile / u.columnTiles % u.rowTiles, " +
          "tile / u.columnTiles / u.rowTiles, thread);",
      ),
    };
  },
);

/** loraHiddenGrad and gradB, which read dy. */
export const backwardY = programFamily(
  "lora_backward_b",
  ({ dy, b, withLoraHiddenGrad, withGradB, modules, tileKind }: {
    dy: Dtype;
    b: Dtype;
    /** Which of the two gradients are made: devices that bind few buffers have a launch for each. */
    withLoraHiddenGrad: boolean;
    withGradB: boolean;
  } & Modules) => {
    const tiles = LORA_TILES[tileKind];
    const gradB = "gradients(tile - u.downTiles, thread);";
    const first = withGradB
      ? `if (tile < u.downTiles) { downDy(tile, thread); } else { ${gradB} }`
      : "downDy(tile, thread);";
    return {
      bindings: [
        ...reads(dy, "dy"),
        ...withGradB ? reads("f32", "loraHidden") : [],
        ...withLoraHiddenGrad ? counted(modules, (m) => reads(b, `b${m}`)) : [],
        ...withLoraHiddenGrad ? writesScalars("f32", "loraHiddenGrad") : [],
        ...withGradB ? counted(modules, (m) => writesScalars("f32", `gradB${m}`)) : [],
      ],
      uniforms: {
        ...yUniforms(modules),
        dyStride: "u32",
        downTiles: "u32",
        columnTiles: "u32",
        tiles: "u32",
      },
      body: partialsMemory(tiles) + (withLoraHiddenGrad ? downDy(tiles, modules) : "") +
        (withGradB ? gradients(tiles, modules, { of: "b" }) : "") +
        MAIN(tiles.threads, withLoraHiddenGrad ? first : gradB),
    };
  },
);

/** gradA and dx, which read loraHiddenGrad. */
export const backwardX = programFamily(
  "lora_backward_a",
  ({ x, a, dx, withGradA, accumulate, modules, drop, tileKind }: {
    x: Dtype;
    a: Dtype;
    /** Whether gradA is made: devices that bind few buffers have a separate launch for it. */
    withGradA: boolean;
    /** The dtype of the input's gradient; none where it is not made. */
    dx: Dtype | "none";
    accumulate: boolean;
    drop: boolean;
  } & Modules) => {
    const tiles = LORA_TILES[tileKind];
    const withDx = dx !== "none";
    return {
      bindings: [
        ...withGradA ? reads(x, "x") : [],
        ...reads("f32", "loraHiddenGrad"),
        ...withDx ? counted(modules, (m) => reads(a, `a${m}`)) : [],
        ...withGradA ? counted(modules, (m) => writesScalars("f32", `gradA${m}`)) : [],
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
      body: partialsMemory(tiles) + (drop ? KEEP_MASK : "") +
        (withGradA ? gradients(tiles, modules, { of: "a", drop }) : "") +
        (withDx ? upX(tiles, modules, { drop, accumulate }) : "") + MAIN(
          tiles.threads,
          `${withGradA ? "if (tile < u.gradTiles) { gradients(tile, thread); return; }" : ""}
  ${withDx ? "let up = tile - u.gradTiles;\n  upX(up % u.upTiles, up / u.upTiles, thread);" : ""}`,
        ),
    };
  },
);
