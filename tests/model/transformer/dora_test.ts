/** DoRA in the float64 reference against PEFT. */
import assert from "node:assert/strict";
import {
  type PeftCase,
  readFixture,
  readModel,
  readTensors,
  tokenizedSamples,
} from "../../fixtures.ts";
import { referenceLogits, referenceWindow } from "../reference.ts";
import type { ReferenceModel } from "../reference_model.ts";

const cases = readFixture("peft.json").filter(({ name }) =>
  ["dora", "dora_all", "dora_head"].includes(name)
);

/** The case's model and adapter, and what of their inputs the layers keep. */
function referenceOf({ name, model, dropped }: PeftCase, drop: boolean): ReferenceModel {
  const { config, weights } = readModel(model);
  const file = new URL(`../../fixtures/peft/${name}/adapter_config.json`, import.meta.url);
  const { r, lora_alpha, use_rslora } = JSON.parse(Deno.readTextFileSync(file));
  const plain = (tensors: ReturnType<typeof readTensors>) =>
    new Map([...tensors].map(([key, { data }]) => [key, data]));
  // Beside an adapter of the output projection is a copy of its weight.
  const adapter = plain(readTensors(`peft/${name}/adapter_model.safetensors`));
  return {
    config,
    weights: plain(weights),
    lora: {
      rank: r,
      alpha: use_rslora ? lora_alpha * Math.sqrt(r) : lora_alpha,
      weights: new Map([...adapter].filter(([key]) => key.includes(".lora_"))),
      mask: (layer) =>
        drop && dropped
          ? Float64Array.from(dropped.kept[layer], (bit) => Number(bit) / (1 - dropped.p))
          : undefined,
    },
  };
}

for (const c of cases) {
  Deno.test(`the reference's DoRA is PEFT's: ${c.name}`, () => {
    const model = referenceOf(c, false), vocabulary = model.config.vocab_size;
    const logits = referenceLogits(model, [c.samples[0].ids]);
    c.positions.forEach((position, i) => {
      const row = logits.subarray(position * vocabulary, (position + 1) * vocabulary);
      const error = Math.max(...row.map((value, j) => Math.abs(value - c.logits[i][j])));
      assert.ok(error < 1e-5, `row ${position}: off by ${error}`);
    });
    for (const drop of c.dropped ? [false, true] : [false]) {
      const actual = referenceWindow(referenceOf(c, drop), [tokenizedSamples(c.samples)], "token");
      const expected = drop ? c.dropped!.loss : c.loss;
      assert.ok(
        Math.abs(actual.loss - expected) < 1e-6 * expected,
        `loss ${actual.loss}, ${expected}`,
      );
      const file = `peft/${c.name}/gradients${drop ? "_dropped" : ""}.safetensors`;
      const gradients = readTensors(file);
      assert.deepEqual([...gradients.keys()].sort(), [...actual.lora.keys()].sort());
      for (const [name, { data }] of gradients) {
        const own = actual.lora.get(name)!;
        const off = Math.hypot(...own.map((value, i) => value - data[i])) / Math.hypot(...data);
        assert.ok(off < 1e-5, `${name}, dropped ${drop}: off by ${off}`);
      }
    }
  });
}
