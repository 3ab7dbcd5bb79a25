/**
 * Products of LoRA adapters down to the rank, as WGSL: the threads of a workgroup share every sum.
 *
 * @module
 */
import { repeat } from "../../wgsl/repeat.ts";
import { addScaled, CHUNK, perModule, steps } from "./snippets.ts";
import type { LoraTiles } from "./tiles.ts";

/**
 * Sums `own` numbers s0, s1, … over all threads of equal index modulo `lanes`, and runs `result` for every `cell` =
 * own·lanes + lane and its `sum`.
 */
function sumThreads(
  { threads, own, lanes, result }: { threads: number; own: number; lanes: number; result: string },
) {
  const chunk = Math.min(CHUNK, own), cells = chunk * lanes;
  // Threads that share a cell, and how many numbers each adds up.
  const shares = Math.max(1, threads / cells), terms = threads / lanes / shares;
  const declare = `
var<workgroup> shareSums: array<array<f32, ${shares + 1}>, ${own * lanes}>;`;
  const code = `${
    repeat(own / chunk, (c) => `
${repeat(chunk, (k) => `  partials[${k}][thread] = s${c * chunk + k};`)}
  workgroupBarrier();
  for (var v = thread; v < ${cells * shares}u; v += ${threads}u) {
    let cell = v / ${shares}u;
    let share = v % ${shares}u;
    let own = cell / ${lanes}u;
    let first = share * ${lanes}u + cell % ${lanes}u;
    var sum = 0.0;
${repeat(terms, (k) => `    sum += partials[own][first + ${k * shares * lanes}u];`)}
    shareSums[${c * cells}u + cell][share] = sum;
  }
  workgroupBarrier();`)
  }
  for (var cell = thread; cell < ${own * lanes}u; cell += ${threads}u) {
    var sum = shareSums[cell][0];
${repeat(shares - 1, (k) => `    sum += shareSums[cell][${k + 1}];`)}
${result}
  }`;
  return { declare, code };
}

/** The beginning of {@linkcode downX} and {@linkcode downDy}: the rows, results and layer of a tile. */
function downTile({ downRows: R, downResults: C }: LoraTiles): string {
  return `
  let rowTiles = (u.rows + ${R - 1}u) / ${R}u;
  let firstRow = (tile % rowTiles) * ${R}u;
  let resultTiles = (u.rank * 4u + ${C - 1}u) / ${C}u;
  let firstResult = (tile / rowTiles) % resultTiles * ${C}u;
  let layer = tile / rowTiles / resultTiles;`;
}

/** Stores a sum of {@linkcode downTile}, times a factor. */
function downResult(tensor: string, modules: number, row: string, result: string, factor: string) {
  return `
    let row = firstRow + ${row};
    let at = firstResult + ${result};
    if (row < u.rows && at < u.rank * 4u) {
      ${tensor}[(row * ${modules}u + layer) * u.rank * 4u + at] = sum * ${factor};
    }`;
}

/** loraHidden[t, i·r + j] = u.factor · Σ_k dropout_i(x)[t, k] · A_i[j, k]: `downX(tile, thread)`. */
export function downX(tiles: LoraTiles, modules: number, drop: boolean): string {
  const { threads, downRows: R, downResults: C, downAhead: ahead } = tiles;
  const result = downResult("loraHidden", modules, `cell / ${C}u`, `cell % ${C}u`, "u.factor");
  const { declare, code } = sumThreads({ threads, own: R * C, lanes: 1, result });
  const loop = { ahead, from: "thread", stride: threads, end: "u.width" };
  return `${declare}
fn downX(tile: u32, thread: u32) {${downTile(tiles)}
${repeat(R, (r) => `  let x${r} = min(firstRow + ${r}u, u.rows - 1u) * u.width;`)}
${repeat(C, (c) => `  let a${c} = min(firstResult + ${c}u, u.rank * 4u - 1u) * u.width;`)}
${repeat(R * C, (k) => `  var s${k} = 0.0;`)}
${
    perModule(modules, (m) =>
      steps(loop, {
        load: (k) => `
${repeat(R, (r) => `    let v${r}_${k} = load_x(x${r} + i_${k});`)}
${repeat(C, (c) => `    let w${c}_${k} = load_a${m}(a${c} + i_${k});`)}`,
        use: (k) =>
          `    {
${
            repeat(R, (r) => {
              const mask = drop
                ? `keepMask(x${r} + i_${k}, u.subsequence${m}) & vec4<bool>(in_${k})`
                : `vec4<bool>(in_${k})`;
              const value = drop || k > 0
                ? `select(vec4<f32>(), v${r}_${k}, ${mask})`
                : `v${r}_${k}`;
              return `      let v${r} = ${value};`;
            })
          }
${repeat(R * C, (n) => `      s${n} += dot(v${Math.floor(n / C)}, w${n % C}_${k});`)}
    }`,
      }))
  }
${code}
}`;
}

/** loraHiddenGrad[t, i·r + j] = u.scale_i · Σ_k dy_i[t, k] · B_i[k, j]: `downDy(tile, thread)`. */
export function downDy(tiles: LoraTiles, modules: number): string {
  const { threads, downRows: R, downResults: C } = tiles, lanes = C / 4;
  const [row, at] = [`cell / ${C}u`, `cell % ${lanes}u * 4u + cell / ${lanes}u % 4u`];
  const result = downResult("loraHiddenGrad", modules, row, at, "scale");
  const { declare, code } = sumThreads({ threads, own: R * 4, lanes, result });
  return `${declare}
fn downDy(tile: u32, thread: u32) {${downTile(tiles)}
  let lane = min(firstResult / 4u + thread % ${lanes}u, u.rank - 1u);
  var scale = 0.0;
${repeat(R, (r) => `  let d${r} = min(firstRow + ${r}u, u.rows - 1u) * u.dyStride;`)}
${repeat(R, (r) => `  var sum${r} = vec4<f32>();`)}
${
    perModule(modules, (m) => `
  scale = u.scale${m};
  for (var i = thread / ${lanes}u; i < u.width${m}; i += ${threads / lanes}u) {
${repeat(4, (l) => `    let w${l} = load_b${m}((i * 4u + ${l}u) * u.rank + lane);`)}
${repeat(R, (r) => `    let v${r} = load_dy(d${r} + u.from${m} + i);`)}
${repeat(R, (r) => addScaled(`sum${r}`, `v${r}`))}
  }`)
  }
${repeat(R * 4, (k) => `  let s${k} = sum${Math.floor(k / 4)}[${k % 4}];`)}
${code}
}`;
}
