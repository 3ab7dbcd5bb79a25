import assert from "node:assert/strict";
import { UsageError } from "../../../kernels/errors.ts";
import { parseYaml } from "./config_parsing.ts";

/** Seconds on a machine that has much other work; alone, each text takes a tenth of one. */
const SOON = 8;

/** Refuses a text in a time that a person does not notice much. */
function refusedSoon(text: string, message: RegExp): void {
  const began = performance.now();
  assert.throws(() => parseYaml(text), (error) => {
    assert.ok(error instanceof UsageError, `${error}`);
    assert.match(error.message, message);
    assert.ok(error.message.length < 5000, `${error.message.length} characters`);
    return true;
  });
  const seconds = (performance.now() - began) / 1000;
  assert.ok(seconds < SOON, `${seconds} s for ${JSON.stringify(text.slice(0, 40))}`);
}

Deno.test("config: a file that is too large is refused by its size", () => {
  const keys = (count: number) => Array.from({ length: count }, (_, i) => `k${i}: 1`).join("\n");
  refusedSoon(
    keys(100_000),
    /\.yaml: is 988889 bytes, expected a configuration of at most 0\.05 MB/,
  );
  refusedSoon(keys(5000), /^unknown key k0 .*\n[^]*\n.*4980 more unknown keys in .*\.yaml$/);
  refusedSoon(`model: ${"x".repeat(60_000)}`, /expected a configuration of at most/);
});

Deno.test("config: what is nested or tangled beyond all need is refused", () => {
  refusedSoon(`betas: ${"[".repeat(20_000)}`, /is nested too deep/);
  refusedSoon(`betas: ${"[".repeat(17)}${"]".repeat(17)}`, /is nested too deep/);
  refusedSoon("{a: ".repeat(10_000), /is nested too deep/);
  refusedSoon("- ".repeat(20_000), /is nested too deep|is no mapping/);
  refusedSoon("? ".repeat(20_000), /more than 100 anchors, aliases, tags, keys/);
  refusedSoon("&a ".repeat(10_000), /more than 100 anchors/);
  refusedSoon("---\n".repeat(10_000), /more than 100 anchors/);
  const powers = Array.from(
    { length: 9 },
    (_, i) => `k${i}: &k${i} [${Array(9).fill(i === 0 ? "1" : `*k${i - 1}`).join(", ")}]`,
  );
  refusedSoon(
    [...powers, "betas: *k8"].join("\n"),
    /an alias leads nowhere, back to itself, or to too much/,
  );
  const inline = powers.map((text) => text.replace(/^k\d: /, "")).join(", ");
  refusedSoon(`betas: [${inline}]`, /an alias leads nowhere, back to itself, or to too much/);
});
