import assert from "node:assert/strict";
import {
  eachSample,
  JoinedSamples,
  SampleSubset,
} from "../../../../model/text/data/sample_list.ts";
import { TokenStore } from "../../../../model/text/data/token_store.ts";
import type { SampleGroup, TokenizedSample } from "../../../../model/text/prompt.ts";
import type { Span } from "../../../../model/text/targets.ts";
import { randomPicker } from "../../../fuzz/mutate.ts";

/** Groups of samples of all kinds: with many targets and none, cut or not, some longer than a block. */
function randomGroups(count: number): SampleGroup[] {
  const pick = randomPicker(5), parts = [undefined, "chosen", "rejected", "prompt"] as const;
  const one = (): TokenizedSample => {
    const length = pick(200) === 0 ? 300_000 : pick(900), targets: Span[] = [];
    for (let at = 1; at < length - 2 && pick(4) > 0;) {
      const begin = at + pick(length - at - 1), end = begin + 1 + pick(length - begin);
      targets.push([begin, Math.min(end, length)]);
      at = end + 1;
    }
    const ids = Uint32Array.from({ length }, () => pick(2 ** 32 - 1));
    const part = parts[pick(4)], truncated = pick(2) === 0;
    return part === undefined ? { ids, targets, truncated } : { ids, targets, truncated, part };
  };
  return Array.from({ length: count }, () => Array.from({ length: 1 + pick(3) }, one));
}

Deno.test("token store: gives back what was put in, in any order", () => {
  const groups = randomGroups(1200), store = new TokenStore();
  groups.forEach((group) => store.add(group));
  assert.equal(store.length, 1200);
  assert.deepEqual([...store], groups);
  for (const i of [1199, 0, 600, 3]) assert.deepEqual(store.at(i), groups[i]);
  assert.deepEqual([store.at(-1), store.at(1200)], [undefined, undefined]);
});

Deno.test("token store: what is more than memory is to hold comes back from a temporary file", () => {
  const groups = randomGroups(1600), store = new TokenStore({ spills: true, memoryBytes: 1 << 20 });
  groups.forEach((group) => store.add(group));
  assert.deepEqual([...store], groups);
  for (const i of [1599, 0, 800, 3]) assert.deepEqual(store.at(i), groups[i]);
  store[Symbol.dispose]();
  // The first are no longer there.
  assert.throws(() => [...store], /the temporary file for data can't be used/);
});

Deno.test("sample lists: some of a list, several lists, and their samples one by one", () => {
  const groups = randomGroups(20), lists = [groups.slice(0, 7), [], groups.slice(7)];
  const joined = new JoinedSamples(lists);
  assert.deepEqual([[...joined], joined.length, joined.mostTokens], [groups, 20, undefined]);
  assert.deepEqual([joined.at(7), joined.at(20), joined.at(-1)], [groups[7], undefined, undefined]);
  const some = new SampleSubset(joined, Uint32Array.of(3, 11, 7));
  assert.deepEqual([...some], [groups[3], groups[11], groups[7]]);
  assert.deepEqual([some.length, some.at(3)], [3, undefined]);
  assert.deepEqual([...eachSample(joined)], groups.flat());
  const streamed = { ...lists[2], length: 13, at: () => undefined, mostTokens: 9 };
  assert.equal(
    new JoinedSamples([lists[0], { ...streamed, [Symbol.iterator]: () => [].values() }])
      .mostTokens,
    9,
  );
});
