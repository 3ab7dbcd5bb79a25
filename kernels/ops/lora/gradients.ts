/**
 * Gradients of LoRA adapters as WGSL: sums of outer products over the rows.
 *
 * @module
 */
import { repeat } from "../../wgsl/repeat.ts";
import { CHUNK, LANES, perModule, steps } from "./snippets.ts";
import type { LoraTiles } from "./tiles.ts";

/**
 * Adds to a gradient the sum over rows of the outer products of a wide and a narrow row: `gradients(tile,
 * thread)`, for gradB[k, j] += u.scale_i · Σ_t dy[t, k] · loraHidden[t, j] (`b`) or
 * gradA[j, k] += u.factor · Σ_t loraHiddenGrad[t, j] · dropout(x)[t, k] (`a`).
 */
export function gradients(
  { threads, gradColumns: N, gradVectors: J, gradAhead: ahead }: LoraTiles,
  modules: number,
  side: { of: "a"; drop: boolean } | { of: "b" },
): string {
  const lanes = threads / N;
  const narrow = side.of === "a" ? "loraHiddenGrad" : "loraHidden";
  const width = (m: number) => side.of === "a" ? "u.width" : `u.width${m}`;
  const place = (m: number, t: string) =>
    side.of === "a" ? `${t} * u.width + column` : `${t} * u.dyStride + u.from${m} + column`;
  const value = (m: number, k: number) => {
    const mask = `keepMask(${place(m, `i_${k}`)}, u.subsequence${m})`;
    const conditions = [
      ...side.of === "a" && side.drop ? [mask] : [],
      ...k > 0 ? [`vec4<bool>(in_${k})`] : [],
    ];
    return conditions.length === 0
      ? `v${k}`
      : `select(vec4<f32>(), v${k}, ${conditions.join(" & ")})`;
  };
  const add = (m: number) =>
    side.of === "a"
      ? `gradA${m}[at * ${width(m)} * 4u + column] += total * u.factor;`
      : `gradB${m}[column * u.rank * 4u + at] += total * u.scale${m};`;
  return `
fn gradients(tile: u32, thread: u32) {
  let firstColumn = (tile % u.columnTiles) * ${N}u;
  let vectorTiles = (u.rank + ${J - 1}u) / ${J}u;
  let firstVector = (tile / u.columnTiles) % vectorTiles * ${J}u;
  let layer = tile / u.columnTiles / vectorTiles;
${repeat(J * 4, (k) => `  var g${k} = vec4<f32>();`)}
${
    perModule(modules, (m) => `
  let column = min(firstColumn + thread % ${N}u, ${width(m)} - 1u);
  ${
      steps({ ahead, from: `thread / ${N}u`, stride: lanes, end: "u.rows" }, {
        load: (k) => `
    let v${k} = load_${side.of === "a" ? "x" : "dy"}(${place(m, `i_${k}`)});
    let first${k} = (i_${k} * ${modules}u + ${m}u) * u.rank;
${
          repeat(J, (j) =>
            `    let n${j}_${k} = load_${narrow}(first${k} + min(firstVector + ${j}u, u.rank - 1u));`)
        }`,
        use: (k) =>
          `    {
      let v = ${value(m, k)};
${
            repeat(
              J * 4,
              (n) =>
                `      g${n} = fma(v, vec4<f32>(n${n >> 2}_${k}.${LANES[n & 3]}), g${n});`,
            )
          }
    }`,
      })
    }`)
  }
${
    repeat(J, (j) => `
  ${j > 0 ? "workgroupBarrier();" : ""}
${repeat(CHUNK, (k) => `  partials[${k}][thread] = g${j * 4 + (k >> 2)}[${k & 3}];`)}
  workgroupBarrier();
  for (var cell = thread; cell < ${CHUNK * N}u; cell += ${threads}u) {
    var total = 0.0;
${repeat(lanes, (l) => `    total += partials[cell / ${N}u][cell % ${N}u + ${l * N}u];`)}
    let at = (firstVector + ${j}u) * 4u + cell / ${4 * N}u;
    let column = (firstColumn + cell % ${N}u) * 4u + cell / ${N}u % 4u;
${
      perModule(modules, (m) => `
    if (at < u.rank * 4u && column < ${width(m)} * 4u) { ${add(m)} }`)
    }
  }`)
  }
}`;
}
