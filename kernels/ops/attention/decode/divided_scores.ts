/**
 * WGSL of the scores of several heads where the threads of a slot divide them: each has the whole scores of one head and
 * some of a tile's keys, makes their weights, and gives these to the others. So powers are taken once, and fewer
 * numbers pass between threads than where each of them adds up all scores.
 *
 * @module
 */
import { declareLaneBits, exchanges } from "../../../wgsl/exchange.ts";
import { maskedWeight } from "../../../wgsl/online_softmax.ts";
import { scoreForExp2 } from "../score.ts";
import type { DecodeLayout } from "./layout.ts";
import { rescale } from "./slot_sums.ts";

/** Whether the threads of a slot can divide a tile's scores evenly. */
export function dividesScores({ heads, rounds, sharing, subgroup }: DecodeLayout): boolean {
  const scores = heads * rounds, isPower = (scores & (scores - 1)) === 0;
  return subgroup > 0 && heads > 1 && isPower && heads <= sharing && sharing <= scores;
}

/** Bits of a thread's number in its slot: those that tell heads apart, and those that tell keys apart. */
function bitsOf({ heads, sharing }: DecodeLayout): { ofHeads: number[]; ofKeys: number[] } {
  const bits = Array.from({ length: Math.log2(sharing) }, (_, e) => 2 ** e);
  return { ofHeads: bits.slice(0, Math.log2(heads)), ofKeys: bits.slice(Math.log2(heads)) };
}

/** Scores of a thread. */
const ownScores = ({ heads, rounds, sharing }: DecodeLayout) => heads * rounds / sharing;

/** Which head and which keys a thread has the scores of, and where its slot's threads are. */
export function declareDivided(layout: DecodeLayout): string {
  const { heads, rounds } = layout, { ofHeads, ofKeys } = bitsOf(layout);
  const chosen = (bits: readonly number[], count: number) =>
    ["0u", ...bits.map((bit, e) => `select(0u, ${count >> (e + 1)}u, lane_${bit})`)].join(" + ");
  return `${declareLaneBits("share", [...ofHeads, ...ofKeys])}
  let own_head = ${chosen(ofHeads, heads)};
  let own_round = ${chosen(ofKeys, rounds)};
  let slot_lane = lane - share;`;
}

/** The thread of a slot that has a score, and which of its own it is. */
function placeOf(h: number, r: number, layout: DecodeLayout): { share: number; own: number } {
  const { rounds, sharing } = layout, own = ownScores(layout), n = h * rounds + r;
  let share = 0;
  // The first exchange is of the most significant bit.
  for (let bit = 1, half = sharing / 2; bit < sharing; bit *= 2, half /= 2) {
    if ((Math.floor(n / own) & half) !== 0) share |= bit;
  }
  return { share, own: n % own };
}

/** From the parts `scoreHEAD_ROUND` of scores to the weights `weightHEAD_ROUND`, to which all sums are made relative. */
export function divideScores(layout: DecodeLayout): string {
  const { heads, rounds, slots, softcap } = layout, { ofHeads, ofKeys } = bitsOf(layout);
  const all = Array.from({ length: heads }, (_, h) => h);
  const keys = Array.from({ length: rounds }, (_, r) => r);
  const parts = all.flatMap((h) => keys.map((r) => `score${h}_${r}`));
  const { lines, names } = exchanges(parts, [...ofHeads, ...ofKeys], "score");
  const own = names.map((name, j) =>
    `let own_score${j} = select(MASKED, ${
      scoreForExp2(name, softcap)
    }, tile + (own_round + ${j}u) * ${slots}u + slot < cached_end);`
  );
  const most = names.map((_, j) => `own_score${j}`).reduce((most, x) => `max(${most}, ${x})`);
  return `${lines.join("\n")}
    ${own.join("\n    ")}
    var own_most = ${most};
    ${
    ofKeys.map((bit) => `own_most = max(own_most, subgroupShuffleXor(own_most, ${bit}u));`)
      .join("\n    ")
  }
    ${
    all.map((h) =>
      `let highest${h} = max(maximum${h}, subgroupShuffle(own_most, slot_lane + ${
        placeOf(h, 0, layout).share
      }u));`
    ).join("\n    ")
  }
    var own_highest = highest0;
    ${
    all.slice(1).map((h) => `own_highest = select(own_highest, highest${h}, own_head == ${h}u);`)
      .join("\n    ")
  }
    ${
    names.map((_, j) => `let own_weight${j} = ${maskedWeight(`own_score${j}`, "own_highest")};`)
      .join("\n    ")
  }
    ${
    all.map((h) => {
      const weights = keys.map((r) => {
        const { share, own } = placeOf(h, r, layout);
        return `let weight${h}_${r} = subgroupShuffle(own_weight${own}, slot_lane + ${share}u);`;
      });
      return [...weights, rescale(h, keys.map((r) => `weight${h}_${r}`), layout)].join("\n    ");
    }).join("\n    ")
  }`;
}
