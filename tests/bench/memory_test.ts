/** The memory bench's plans, which check themselves against a closed form. */
import assert from "node:assert/strict";
import { MODES, planMode } from "../../bench/memory.ts";
import { UserError } from "../../kernels/errors.ts";
import { CATEGORIES } from "../../kernels/gpu/memory.ts";

Deno.test("bench memory: modes differ in activations alone, and a total is the sum of its parts", () => {
  const [none, ...others] = MODES.map(planMode);
  assert.equal(none.checkpointing, "none");
  assert.deepEqual(none.recomputed, { blocks: 0, attentions: 0 });
  for (const row of others) {
    const { activation, ...rest } = row.memory_mb;
    assert.deepEqual({ ...none.memory_mb, activation }, { ...rest, activation });
    assert.ok(activation < none.memory_mb.activation, row.checkpointing);
    assert.ok(row.recomputed.blocks + row.recomputed.attentions > 0, row.checkpointing);
    const sum = CATEGORIES.reduce((total, category) => total + row.memory_mb[category], 0);
    assert.ok(Math.abs(sum - row.total_mb) < 1e-6, row.checkpointing);
  }
});

Deno.test("bench memory: a mode that is none is refused", () => {
  assert.throws(() => planMode("every:0"), UserError);
});
