/** PEFT's rules for which modules are adapted, and how, on configurations that PEFT itself resolved; and Python's patterns. */
import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { adapterPlan } from "../../../model/adapter/plan.ts";
import {
  endMatch,
  fromPython,
  fullMatch,
  partMatch,
  PatternProblem,
} from "../../../model/adapter/python_pattern.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { parseAdapterConfig } from "../../../model/adapter/adapter_config.ts";
import { readFixture } from "../../fixtures.ts";

const MODEL = { ...presetConfig("tiny"), num_hidden_layers: 3, tie_word_embeddings: false };

Deno.test("modules, ranks, scales and copies are PEFT's for 240 configurations", () => {
  let refused = 0;
  for (const { config: said, expected } of readFixture("adapter_rules.json")) {
    const what = JSON.stringify(said);
    const resolve = () =>
      adapterPlan(parseAdapterConfig({ peft_type: "LORA", ...said }, "config"), MODEL, "config");
    if (expected === null) {
      assert.throws(resolve, (error: unknown) => error instanceof UserError, what);
      refused++;
      continue;
    }
    const { modules, replaced } = resolve();
    const own = Object.fromEntries(
      [...modules].map(([name, { rank, scale }]) => [name, [rank, scale]]),
    );
    assert.deepEqual(own, expected.modules, what);
    assert.deepEqual([...replaced].sort(), expected.saved, what);
  }
  assert.ok(refused > 10, `${refused} were refused`);
});

Deno.test("Python's patterns match what they match in Python, and others are refused", () => {
  const full = (pattern: string, name: string) => fullMatch(pattern)(name);
  assert.ok(full("q|k", "q") && full("q|k", "k") && !full("q|k", "qk"));
  assert.ok(full("[]a]+", "]a]") && full("[^]a]", "b") && !full("[^]a]", "]"));
  assert.ok(full("a{,2}", "aa") && full("a{,2}", "") && !full("a{,2}", "aaa"));
  assert.ok(full("(?P<x>a)b(?P=x)", "aba") && full("(a)\\1", "aa"));
  assert.ok(full("\\Aa\\Z", "a") && full("a\\.b", "a.b") && !full("a\\.b", "axb"));
  assert.ok(endMatch("q_proj")("model.q_proj") && !endMatch("q_proj")("model.aq_proj"));
  assert.ok(endMatch("^model.x")("model.x") && !endMatch("^x")("model.x"));
  assert.ok(endMatch("a|b")("x.a") && endMatch("a|b")("x.b"));
  assert.ok(partMatch("mlp")("model.mlp.up") && !partMatch("ml")("model.mlp.up"));
  for (
    const pattern of [
      "(?i)a",
      "a*+",
      "(?>a)",
      "\\pL",
      "(?#a)b",
      "(?(1)a|b)",
      "[a",
      "(a",
      "a\\",
      "*a",
      "a".repeat(3000),
    ]
  ) assert.throws(() => fromPython(pattern), PatternProblem, pattern);
});
