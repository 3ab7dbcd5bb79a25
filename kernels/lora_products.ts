/**
 * The products of LoRA adapters as WGSL, each a function that a workgroup calls for one tile of the result:
 * down to the rank, up to a layer's width, and the outer products of the gradients.
 *
 * A tensor of module m is bound under its name and m. Everything is counted in vectors of four: `u.rank`
 * is r/4, and a row of `low` and `lowGrad` has modules·u.rank. Sums are f32 and always in the same order.
 *
 * @module
 */
import type { LoraTiles } from "./lora_tiles.ts";
import { repeat } from "./program.ts";

/** Numbers of a thread that go through workgroup memory at once. */
const CHUNK = 16;

/** Workgroup memory of every program. A row has 16 places more, so that rows lie in different banks. */
export function partsMemory({ threads }: LoraTiles): string {
  return `var<workgroup> parts: array<array<f32, ${threads + 16}>, ${CHUNK}>;`;
}

const LANES = ["x", "y", "z", "w"];

/** `code(m)` for the module that the tile belongs to. */
const perModule = (modules: number, code: (m: number) => string) =>
  repeat(modules, (m) => `  if (layer == ${m}u) {\n${code(m)}\n  }`);

/**
 * Adds up `own` numbers s0, s1, … of every thread over those threads that have the same index modulo
 * `lanes`, and runs `result` for every `cell` = own·lanes + lane and its `sum`.
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
${repeat(chunk, (k) => `  parts[${k}][thread] = s${c * chunk + k};`)}
  workgroupBarrier();
  for (var v = thread; v < ${cells * shares}u; v += ${threads}u) {
    let cell = v / ${shares}u;
    let share = v % ${shares}u;
    let own = cell / ${lanes}u;
    let first = share * ${lanes}u + cell % ${lanes}u;
    var sum = 0.0;
${repeat(terms, (k) => `    sum += parts[own][first + ${k * shares * lanes}u];`)}
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

/** What {@linkcode downX} and {@linkcode downDy} begin with. */
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

/** `step` for a loop's next few values of i, from `i` on in steps of `stride` and all below `end`. */
const steps = (
  { ahead, from, stride, end }: { ahead: number; from: string; stride: number; end: string },
  { load, use }: { load: (k: number) => string; use: (k: number) => string },
) => `
  for (var i = ${from}; i < ${end}; i += ${ahead * stride}u) {
${
  repeat(ahead, (k) =>
    `    let i_${k} = ${k === 0 ? "i" : `min(i + ${k * stride}u, ${end} - 1u)`};
    let in_${k} = ${k === 0 ? "true" : `i + ${k * stride}u < ${end}`};
${load(k)}`)
}
${repeat(ahead, use)}
  }`;

/** 0 where step k is beyond the loop's end. */
const inside = (k: number, value: string) =>
  k === 0 ? value : `select(vec4<f32>(), ${value}, in_${k})`;

/** low[t, i·r + j] = u.factor · Σ_k dropout_i(x)[t, k] · A_i[j, k]: `downX(tile, thread)`. */
export function downX(tiles: LoraTiles, modules: number, drop: boolean): string {
  const { threads, downRows: R, downResults: C, downAhead: ahead } = tiles;
  const result = downResult("low", modules, `cell / ${C}u`, `cell % ${C}u`, "u.factor");
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
                ? `kept(x${r} + i_${k}, u.stream${m}) & vec4<bool>(in_${k})`
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

/** lowGrad[t, i·r + j] = u.scale · Σ_k dy_i[t, k] · B_i[k, j]: `downDy(tile, thread)`. */
export function downDy(tiles: LoraTiles, modules: number): string {
  const { threads, downRows: R, downResults: C, downAhead: ahead } = tiles, lanes = C / 4;
  const [row, at] = [`cell / ${C}u`, `cell % ${lanes}u * 4u + cell / ${lanes}u % 4u`];
  const result = downResult("lowGrad", modules, row, at, "u.scale");
  const { declare, code } = sumThreads({ threads, own: R * 4, lanes, result });
  return `${declare}
fn downDy(tile: u32, thread: u32) {${downTile(tiles)}
  let lane = min(firstResult / 4u + thread % ${lanes}u, u.rank - 1u);
${repeat(R, (r) => `  let d${r} = min(firstRow + ${r}u, u.rows - 1u) * u.dyStride;`)}
${repeat(R, (r) => `  var sum${r} = vec4<f32>();`)}
${
    perModule(modules, (m) => {
      const end = `u.width${m}`;
      return steps({ ahead, from: `thread / ${lanes}u`, stride: threads / lanes, end }, {
        load: (k) => `
${repeat(4, (l) => `    let w${l}_${k} = load_b${m}((i_${k} * 4u + ${l}u) * u.rank + lane);`)}
${repeat(R, (r) => `    let v${r}_${k} = load_dy(d${r} + u.from${m} + i_${k});`)}`,
        use: (k) =>
          repeat(R, (r) => {
            const v = inside(k, `v${r}_${k}`);
            const adds = repeat(
              4,
              (l) => `      sum${r} = fma(vec4<f32>(v.${LANES[l]}), w${l}_${k}, sum${r});`,
            );
            return `    { let v = ${v};\n${adds}\n    }`;
          }),
      });
    })
  }
${repeat(R * 4, (k) => `  let s${k} = sum${Math.floor(k / 4)}[${k % 4}];`)}
${code}
}`;
}

/**
 * Adds to a gradient the sum over rows of the outer products of a wide and a narrow row: `gradients(tile,
 * thread)`, for gradB[k, j] += u.scale · Σ_t dy[t, k] · low[t, j] (`b`) or
 * gradA[j, k] += u.factor · Σ_t lowGrad[t, j] · dropout(x)[t, k] (`a`).
 */
export function gradients(
  { threads, gradColumns: N, gradVectors: J, gradAhead: ahead }: LoraTiles,
  modules: number,
  side: { of: "a"; drop: boolean } | { of: "b" },
): string {
  const lanes = threads / N;
  const narrow = side.of === "a" ? "lowGrad" : "low";
  const width = (m: number) => side.of === "a" ? "u.width" : `u.width${m}`;
  const place = (m: number, t: string) =>
    side.of === "a" ? `${t} * u.width + column` : `${t} * u.dyStride + u.from${m} + column`;
  const value = (m: number, k: number) => {
    const kept = `kept(${place(m, `i_${k}`)}, u.stream${m})`;
    const conditions = [
      ...side.of === "a" && side.drop ? [kept] : [],
      ...k > 0 ? [`vec4<bool>(in_${k})`] : [],
    ];
    return conditions.length === 0
      ? `v${k}`
      : `select(vec4<f32>(), v${k}, ${conditions.join(" & ")})`;
  };
  const add = (m: number) =>
    side.of === "a"
      ? `gradA${m}[at * ${width(m)} * 4u + column] += total * u.factor;`
      : `gradB${m}[column * u.rank * 4u + at] += total * u.scale;`;
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
${repeat(CHUNK, (k) => `  parts[${k}][thread] = g${j * 4 + (k >> 2)}[${k & 3}];`)}
  workgroupBarrier();
  for (var cell = thread; cell < ${CHUNK * N}u; cell += ${threads}u) {
    var total = 0.0;
${repeat(lanes, (l) => `    total += parts[cell / ${N}u][cell % ${N}u + ${l * N}u];`)}
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

/** What a thread of {@linkcode upY} and {@linkcode upX} has: a vector's column and some rows. */
function upTile({ threads, upColumns: N, upRows: R }: LoraTiles, modules: number, low: string) {
  const lanes = threads / N;
  return `
  let column = columnTile * ${N}u + thread % ${N}u;
  let firstRow = (rowTile * ${lanes}u + thread / ${N}u) * ${R}u;
${
    repeat(R, (r) =>
      `  let ${low}${r} = min(firstRow + ${r}u, u.rows - 1u) * ${modules}u * u.rank;`)
  }`;
}

/** Vectors of the rank that a tile of B has in workgroup memory. */
const STAGED = 4;

/** y_i[t, k] += u.scale · Σ_j low[t, i·r + j] · B_i[k, j]: `upY(columnTile, rowTile, layer, thread)`. */
export function upY(tiles: LoraTiles, modules: number): string {
  const { threads, upColumns: N, upRows: R } = tiles, count = 4 * STAGED * N / threads;
  const at = (k: number) => `(thread + ${k * threads}u)`;
  // Read as it lies in memory, a row of B after the other; then neighbouring threads have neighbouring columns.
  const fetch = (m: number) =>
    repeat(count, (k) => `
    let b${k} = load_b${m}(min(columnTile * ${4 * N}u + ${
      at(k)
    } / ${STAGED}u, u.width${m} * 4u - 1u) * u.rank +
      min(first + ${at(k)} % ${STAGED}u, u.rank - 1u));`);
  const put = repeat(count, (k) => `
    staged[${at(k)} % ${STAGED}u * 4u + ${at(k)} / ${STAGED}u % 4u][${at(k)} / ${
    4 * STAGED
  }u] = b${k};`);
  const rows = (line: (r: number) => string) => repeat(R, line);
  return `
var<workgroup> staged: array<array<vec4<f32>, ${N + 1}>, ${4 * STAGED}>;
fn upY(columnTile: u32, rowTile: u32, layer: u32, thread: u32) {${upTile(tiles, modules, "low")}
${rows((r) => `  var sum${r} = vec4<f32>();`)}
${
    perModule(modules, (m) => `
${
      rows((r) => `
  let y${r} = min(firstRow + ${r}u, u.rows - 1u) * u.yStride + u.from${m} + min(column, u.width${m} - 1u);
  let before${r} = load_y(y${r});`)
    }
  for (var first = 0u; first < u.rank; first += ${STAGED}u) {
${fetch(m)}
${
      rows((r) =>
        repeat(STAGED, (k) => `
    let v${r}_${k} = load_low(low${r} + ${m}u * u.rank + min(first + ${k}u, u.rank - 1u));`)
      )
    }
    workgroupBarrier();
${put}
    workgroupBarrier();
${
      repeat(STAGED, (k) => `
    if (first + ${k}u < u.rank) {
${repeat(4, (l) => `      let w${l} = staged[${k * 4 + l}][thread % ${N}u];`)}
${
        rows((r) =>
          `      sum${r} += vec4<f32>(${LANES.map((_, l) => `dot(v${r}_${k}, w${l})`).join(", ")});`
        )
      }
    }`)
    }
  }
  if (column < u.width${m}) {
${
      rows((r) =>
        `    if (firstRow + ${r}u < u.rows) { store_y(y${r}, before${r} + u.scale * sum${r}); }`
      )
    }
  }`)
  }
}`;
}

/**
 * dx[t, k] = u.factor · Σ_i mask_i ⊙ Σ_j lowGrad[t, i·r + j] · A_i[j, k], from vector u.dxFrom of dx on and added
 * to what is there where `accumulate`: `upX(columnTile, rowTile, thread)`.
 */
export function upX(
  tiles: LoraTiles,
  modules: number,
  { drop, accumulate }: { drop: boolean; accumulate: boolean },
): string {
  const { upRows: R, upAhead: ahead } = tiles;
  return `
fn upX(columnTile: u32, rowTile: u32, thread: u32) {${upTile(tiles, modules, "low")}
  if (column >= u.width) { return; }
${repeat(R, (r) => `  var total${r} = vec4<f32>();`)}
${
    repeat(modules, (m) =>
      `  {
${repeat(R, (r) => `  var sum${r} = vec4<f32>();`)}
  ${
        steps({ ahead, from: "0u", stride: 1, end: "u.rank" }, {
          load: (k) => `
${repeat(4, (l) => `    let w${l}_${k} = load_a${m}((i_${k} * 4u + ${l}u) * u.width + column);`)}
${repeat(R, (r) => `    let v${r}_${k} = load_lowGrad(low${r} + ${m}u * u.rank + i_${k});`)}`,
          use: (k) =>
            repeat(R, (r) => {
              const adds = repeat(
                4,
                (l) => `      sum${r} = fma(vec4<f32>(v.${LANES[l]}), w${l}_${k}, sum${r});`,
              );
              return `    { let v = ${inside(k, `v${r}_${k}`)};\n${adds}\n    }`;
            }),
        })
      }
${
        repeat(R, (r) => {
          const at = `(firstRow + ${r}u) * u.width + column`;
          const part = drop ? `select(vec4<f32>(), sum${r}, kept(${at}, u.stream${m}))` : `sum${r}`;
          return `  total${r} += ${part};`;
        })
      }
  }`)
  }
${
    repeat(R, (r) => `
  if (firstRow + ${r}u < u.rows) {
    let at = u.dxFrom + (firstRow + ${r}u) * u.width + column;
    store_dx(at, ${accumulate ? "load_dx(at) + " : ""}u.factor * total${r});
  }`)
  }
}`;
}
