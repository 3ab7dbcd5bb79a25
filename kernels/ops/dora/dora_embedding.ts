/**
 * The factors of a weight-decomposed adapter (DoRA, see dora.ts) of the token embedding. PEFT takes the embedding's
 * columns for the rows of a linear layer: a magnitude belongs to a feature, not to a token.
 *
 * Shapes: table E `[V, H]` f32 or f16, A `[r, V]`, B `[H, r]`, magnitude m, norm n and factor g `[H]` f32, y and z
 * `[T, H]`. r, V and H are multiples of 4. With s the adapter's scale and loraHidden_t column ids[t] of A:
 *
 *     n_h = ‖E_{·h} + s·Aᵀ·B_h‖      g = m / n      y_t = g ∘ z_t, z_t = E_{ids[t]} + s·loraHidden_t·Bᵀ
 *
 * n counts as a constant in backward: dm_h += Σ_t dy_th·z_th / n_h (`magnitudeGradient`), and A and B get the
 * gradients of an adapter whose output's is g ∘ dy (`scaleColumns`). A column of zeros has g = 0.
 *
 * @module
 */
import { columnSums } from "../../wgsl/column_sums.ts";
import type { DoraModule } from "./dora.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import { loadFunction } from "../weights/kind.ts";
import { weightKind } from "../weights/kinds.ts";
import { operandOf } from "../weights/operand.ts";

/** Vectors of columns of a workgroup, and threads that share one, each with every so many rows. */
const COLUMNS = 16;
const lanesOn = ({ software }: Gpu) => software ? 1 : 16;

/**
 * A thread has four columns and goes over the table four rows at a time: a vector of A holds those rows, one of B
 * four of the rank. Squares of a table that is bound in slices are added up in `norm`.
 */
const factors = programFamily(
  "dora_embedding_factors",
  ({ table, lanes }: { table: string; lanes: number }) => ({
    bindings: [
      ...weightKind(table).bindings("e", 4),
      ...reads("f32", "a", "b", "magnitude"),
      ...writes("f32", "norm", "factor"),
    ],
    // `rows` of this slice of the table in fours, the first of which is `first`; `tokens`, `width` and `rank` in vectors.
    uniforms: {
      rows: "u32",
      first: "u32",
      tokens: "u32",
      width: "u32",
      rank: "u32",
      begins: "u32",
      ends: "u32",
      scale: "f32",
    },
    body: loadFunction(weightKind(table), "e") + columnSums({
      columns: COLUMNS,
      lanes,
      add: `${repeat(4, (t) => `      var v${t} = load_e((row * 4u + ${t}u) * u.width + column);`)}
      for (var j = 0u; j < u.rank; j++) {
${repeat(4, (k) => `        let a${k} = load_a((j * 4u + ${k}u) * u.tokens + u.first + row);`)}
${repeat(4, (h) => `        let b${h} = u.scale * load_b((column * 4u + ${h}u) * u.rank + j);`)}
${
        repeat(4, (k) => {
          const lane = "xyzw"[k];
          return `        let w${k} = vec4<f32>(b0.${lane}, b1.${lane}, b2.${lane}, b3.${lane});\n` +
            repeat(4, (t) => `        v${t} += a${k}.${"xyzw"[t]} * w${k};`);
        })
      }
      }
      sum += v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3;`,
      store: `  if (u.begins == 0u) { sum += load_norm(column); }
  if (u.ends == 0u) { store_norm(column, sum); return; }
  let n = sqrt(sum);
  store_norm(column, n);
  store_factor(column, select(vec4<f32>(), load_magnitude(column) / n, n > vec4<f32>()));`,
    }),
  }),
);

/**
 * Writes `norm` and `factor` of an embedding, whose table is `weight`.
 *
 * @param lanes Threads that share a column.
 */
export function embeddingDoraFactors(
  gpu: Gpu,
  { a, b, scale, magnitude, norm, factor, ...module }: DoraModule,
  lanes = lanesOn(gpu),
): void {
  const weight = operandOf(module.weight), [tokens, hidden] = weight.shape, [rank] = a.shape;
  const fits = a.shape[1] === tokens && b.shape[0] === hidden && b.shape[1] === rank &&
    [magnitude, norm, factor].every(({ size }) => size === hidden) &&
    (rank | hidden | tokens) % 4 === 0;
  if (!fits) {
    const shapes = [weight, a, b, magnitude].map(({ name, shape }) => `${name} [${shape}]`);
    throw new Error(`${shapes.join(", ")} do not fit`);
  }
  const width = hidden / 4, slices = weight.ranges(gpu.maxBinding);
  slices.forEach(({ start, count }, i) => {
    const slice = slices.length === 1 ? weight : weight.rows(start, count);
    gpu.run(
      factors({ table: weight.kind.name, lanes }),
      [...slice.tensors, a, b, magnitude, norm, factor],
      {
        rows: count / 4,
        first: start / 4,
        tokens: tokens / 4,
        width,
        rank: rank / 4,
        begins: i === 0 ? 1 : 0,
        ends: i === slices.length - 1 ? 1 : 0,
        scale,
      },
      [Math.ceil(width / COLUMNS)],
      {
        flops: 2 * count * hidden * (rank + 1),
        bytes: slice.bytes + 4 * count * rank + 4 * hidden * (rank + 4),
      },
    );
  });
}
