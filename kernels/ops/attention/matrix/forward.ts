/**
 * The program of attention on subgroup matrices (see attention.ts for the contract).
 *
 * A subgroup can't scale the rows of its sums, so there is no running maximum to correct them by: a first walk over
 * the keys finds each query's log-sum-exp, a second adds up the values by the final weights.
 *
 * @module
 */
import { type ProgramSource, readsScalars, writes, writesScalars } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { corrected, DECLARE_MASKED, weightOf } from "../../../wgsl/online_softmax.ts";
import { declareSoftcap, softcapUniform } from "../../../wgsl/softcap.ts";
import { headStart, headUniforms } from "../heads.ts";
import { excludedBindings, nextTile, readExcluded } from "../excluded_keys.ts";
import { rowWords } from "../row_index.ts";
import { scoreForExp2 } from "../score.ts";
import {
  addProducts,
  attends,
  declareMatrixSums,
  declareTiles,
  type FetchWord,
  fetchWord,
  loadOwn,
  makeScores,
  matrixPlaces,
  readScores,
  readsWords,
  storeMatrixSums,
  storeWeights,
  type TileWords,
  tileWords,
} from "./tiles.ts";
import { type MatrixKey, matrixPlan } from "./plan.ts";

/** The source of a key, with or without lse and keys that queries exclude. */
export function matrixForwardSource(
  { withLse, excludes, softcap, ...key }:
    & { withLse: boolean; excludes: boolean; softcap: boolean }
    & MatrixKey,
): ProgramSource {
  const plan = matrixPlan(key), word = rowWords();
  const { rows, columns, threads, words, weightWords, weightPlaces: { afterScores } } = plan;
  const fetch = (name: "k" | "v", tile: string): FetchWord => (row, word) =>
    `fetch_${name}(${tile} + ${row}, key_end, u.${name}_from + kv_head * ${words}u, ${word})`;
  const queries = tileWords(plan, "query", [
    (row, word) => `fetch_q(first + ${row}, u.rows, u.q_from + head * ${words}u, ${word})`,
  ]);
  const keys = (tile: string) => tileWords(plan, "word", [fetch("k", tile)]);
  const both = (tile: string) => tileWords(plan, "word", [fetch("k", tile), fetch("v", tile)]);
  /** One walk over the keys. The next tiles are under way while these are multiplied. */
  const walk = (tiles: (tile: string) => TileWords, weigh: string) =>
    `${tiles("key_first").load}
  for (var tile = key_first; tile < key_end; tile = ${nextTile(columns, excludes)}) {
    workgroupBarrier();
    ${tiles("tile").store}
    workgroupBarrier();
    let next = ${nextTile(columns, excludes)};
    ${tiles("next").load}
    ${makeScores(plan, "own", 0)}
    workgroupBarrier();
    ${readScores(plan, "s")}
    ${attends(excludes)}
    ${weigh}
  }`;
  const scores = (half: "lo" | "hi") =>
    `let x_${half} = select(vec4<f32>(MASKED), ${
      scoreForExp2(`s_${half}`, softcap)
    }, attends_${half});`;
  const weighed = (half: "lo" | "hi") =>
    `let p_${half} = select(vec4<f32>(), ${
      weightOf(scoreForExp2(`s_${half}`, softcap), "exponent")
    },
      attends_${half});`;
  const powers = (half: "lo" | "hi") =>
    `dot(select(vec4<f32>(), ${
      weightOf(`x_${half}`, "highest")
    }, attends_${half}), vec4<f32>(1.0))`;
  const rescaled = weightOf("maximum", "highest");
  return {
    bindings: [
      ...readsWords("q", "k", "v"),
      ...readsScalars("u32", "starts", "ends"),
      ...excludedBindings(excludes),
      ...writes("f16", "out"),
      ...withLse ? writesScalars("f32", "lse") : [],
    ],
    uniforms: {
      rows: "u32",
      heads: "u32",
      kv_heads: "u32",
      scale: "f32",
      ...softcapUniform(softcap),
      ...headUniforms("q", "k", "v", "out"),
    },
    extensions: plan.matrix.extensions,
    body: `${plan.matrix.declare}${["q", "k", "v"].map((name) => fetchWord(name)).join("\n")}
${DECLARE_MASKED}${declareSoftcap(softcap, "vec4<f32>")}
fn highest_of(x: vec4<f32>) -> f32 { return max(max(x.x, x.y), max(x.z, x.w)); }
${declareTiles(plan)}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let head = group.x;
  let kv_head = head / (u.heads / u.kv_heads);
  // Later queries have more keys: they go first, so that the longest work does not end last.
  let first = ((u.rows - 1u) / ${rows}u - group.y) * ${rows}u;
  let key_first = starts[first];
  let key_end = ends[min(first + ${rows}u, u.rows) - 1u];
  ${matrixPlaces(plan)}
  var low = 0u;
  var high = 0u;
  ${
      excludes
        ? `let skip_low = ${word("excluded_keys", "first", 0)};
  let skip_high = ${word("excluded_keys", "first", 1)};
  var excluded_low = 0u;
  var excluded_high = 0u;`
        : ""
    }
  if (first + tile_row < u.rows) {
    low = starts[first + tile_row];
    high = ends[first + tile_row];
    ${readExcluded("(first + tile_row)", { excludes, word })}
  }
  // The subgroup's own queries stay in registers.
  {
    ${queries.declare}
    ${queries.load}
    ${queries.store}
  }
  workgroupBarrier();
  ${loadOwn(plan, "own", 0)}

  var maximum = MASKED;
  var denominator = 0.0;
  ${both("tile").declare}
  ${
      walk(
        keys,
        `${scores("lo")}
    ${scores("hi")}
    let highest = max(maximum, max(highest_of(x_lo), highest_of(x_hi)));
    denominator = ${corrected("denominator", rescaled, `${powers("lo")} + ${powers("hi")}`)};
    maximum = highest;`,
      )
    }
  // Each of a row's threads has seen some of its keys.
  ${
      repeat(Math.log2(weightWords), (n) =>
        `{
    let other_maximum = subgroupShuffleXor(maximum, ${1 << n}u);
    let other_denominator = subgroupShuffleXor(denominator, ${1 << n}u);
    let highest = max(maximum, other_maximum);
    denominator = ${
          corrected(
            "denominator",
            rescaled,
            `other_denominator * ${weightOf("other_maximum", "highest")}`,
          )
        };
    maximum = highest;
  }`)
    }
  let exponent = maximum + log2(denominator);
  ${
      withLse
        ? `if (tile_word == 0u && first + tile_row < u.rows) {
    lse[(first + tile_row) * u.heads + head] =
      select(exponent * ${Math.LN2}, MASKED, low >= high);
  }`
        : ""
    }

  ${declareMatrixSums(plan, "sum")}
  ${
      walk(
        both,
        `${weighed("lo")}
    ${weighed("hi")}
    ${storeWeights(plan, "p", afterScores)}
    workgroupBarrier();
    ${addProducts(plan, "sum", { weights: afterScores, tile: 1 })}`,
      )
    }
  ${
      storeMatrixSums(plan, "sum", {
        binding: "out",
        start: (row) => headStart("out", row, "head", 2 * words),
      }, "1.0")
    }
}`,
  };
}
