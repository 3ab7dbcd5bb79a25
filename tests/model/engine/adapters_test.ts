/** Several adapters on one model, each sequence with its own: the tokens that each adapter gives alone. */
import assert from "node:assert/strict";
import { combineAdapters, type NamedAdapter } from "../../../model/adapter/combined.ts";
import { checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { adapterPlan } from "../../../model/adapter/plan.ts";
import { loadAdapter } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { fixturePath, type GreedyCase, readFixture } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { makeEngine } from "./engines.ts";

const NAMES = ["adapter_qv", "adapter_all"];
const CONFIG = openModel(fixturePath("llama")).config;
/** The longest prompts take more time than the others together. */
const LONGEST = 129, TOKENS = 16;

function namedAdapter(name: string): NamedAdapter {
  const adapter = readAdapter(fixturePath(name));
  return { ...adapter, name, plan: checkAdapter(adapter, CONFIG, name) };
}

/** PyTorch's tokens of the model with and without its adapters. */
const CASES = readFixture("greedy.json")
  .filter(({ model, prompt }: GreedyCase) => model === "llama" && prompt.length <= LONGEST);

gpuTest("engine: sequences have adapters of their own, in one batch", async (gpu) => {
  const { owners, plan, ...adapter } = combineAdapters(NAMES.map(namedAdapter), CONFIG);
  const numberOf = (name: string | null) => name === null ? 0 : 1 + NAMES.indexOf(name);
  for (const sequences of [3, CASES.length]) {
    const engine = await makeEngine(gpu, { model: "llama", adapter: null }, {
      lora: plan,
      owners,
      sizes: { sequences },
    });
    loadAdapter(gpu, engine.model, adapter);
    // Prompts of all lengths beside each other; a slot's next sequence has another adapter.
    const order = CASES.toSorted((a, b) => a.prompt.length - b.prompt.length);
    const all = order.map(({ prompt, adapter }) =>
      engine.admit(prompt, { maxTokens: TOKENS, stop: [], adapter: numberOf(adapter), reuse: true })
    );
    while (all.some(({ finished }) => finished === undefined)) await engine.step(gpu);
    for (const [i, { ids, adapter, prompt }] of order.entries()) {
      const what = `${adapter}, ${prompt.length} tokens, ${sequences} at once`;
      assert.deepEqual(all[i].ids, ids.slice(0, TOKENS), what);
    }
    assert.throws(
      () => engine.admit([1], { maxTokens: 1, stop: [], adapter: 3 }),
      /adapter is 3; expected a whole number from 0 to 2/,
    );
  }
});

Deno.test("adapters: what is no update of linear layers can't be combined, and is named", () => {
  const [{ config, ...adapter }] = NAMES.map(namedAdapter);
  const changes = [
    [{ use_dora: true }, /adapter mine has use_dora/],
    [{ modules_to_save: ["lm_head"] }, /has modules_to_save/],
    [{ target_modules: ["q_proj", "embed_tokens"] }, /has embed_tokens among its target_modules/],
    [{ trainable_token_indices: { embed_tokens: [1] } }, /has trainable_token_indices/],
  ] as const;
  for (const [change, message] of changes) {
    const changed = { ...config, ...change } as typeof config;
    const plan = adapterPlan(changed, CONFIG, "mine");
    const named = { ...adapter, config: changed, plan, name: "mine" };
    assert.throws(() => combineAdapters([named], CONFIG), message);
  }
});
