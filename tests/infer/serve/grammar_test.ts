/** Schemas as grammars, and the masks that keep answers to them. */
import assert from "node:assert/strict";
import { GrammarMasks } from "../../../infer/serve/grammar/masks.ts";
import { integerBetween } from "../../../infer/serve/grammar/json_rules.ts";
import { jsonSchemaGrammar } from "../../../infer/serve/grammar/json_schema.ts";
import { vocabularyOf } from "../../../infer/serve/grammar/vocabulary.ts";
import { openModelWithTokenizer } from "../../../model/checkpoint/source.ts";
import { stopTokens } from "../../../model/text/tokenizer/stop_tokens.ts";
import { random } from "../../kernels/harness.ts";
import { faultOf, SCHEMAS } from "./schemas.ts";

const { source, tokenizer } = await openModelWithTokenizer({ model: "builtin" });
source.weights?.close();
const stop = stopTokens(source.config, tokenizer, source.folder);
const size = source.config.vocab_size;
const masks = new GrammarMasks(vocabularyOf(tokenizer, { size, stop }));

/** The ids whose bits are set. */
const idsOf = (bits: Uint32Array) =>
  Array.from({ length: size }, (_, id) => id).filter((id) => bits[id >>> 5] >>> (id & 31) & 1);

/** A text of tokens that are drawn from what a mask allows; undefined where it has no end after `most` tokens. */
async function drawn(
  schema: unknown,
  most: number,
  next: () => number,
): Promise<string | undefined> {
  using mask = await masks.begin(jsonSchemaGrammar(schema, "schema"), most);
  const ids: number[] = [];
  for (;;) {
    const allowed = idsOf(await mask.allowed(most - ids.length));
    assert.ok(allowed.length > 0, `nothing may follow ${tokenizer.decode(ids)}`);
    const id = allowed[Math.floor((next() + 1) / 2 * allowed.length)];
    if (stop.includes(id)) return tokenizer.decode(ids);
    if (ids.length === most) return undefined;
    ids.push(id);
    mask.accept(id);
  }
}

Deno.test("grammar: whatever is drawn of what a mask allows is JSON, valid by its schema, and ends", async () => {
  const next = random(1);
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    for (let i = 0; i < 6; i++) {
      const text = await drawn(schema, 500, next);
      assert.ok(text !== undefined, `${name} has no end`);
      const value = JSON.parse(text);
      assert.equal(faultOf(schema, value), undefined, `${name}: ${text}`);
    }
  }
});

Deno.test("grammar: bounds of integers are kept at every edge", () => {
  const ranges = [[0, 0], [3, 17], [-5, 5], [-120, -7], [99, 101], [10, 1000], [-1, 0], [
    7,
    20_000,
  ]];
  const matches = (expression: string, value: number) => {
    const pattern = expression.split(" | ").map((alternative) =>
      alternative.replace(/"([^"]*)"/g, "$1").replaceAll(" ", "")
    ).join("|");
    return new RegExp(`^(${pattern})$`).test(`${value}`);
  };
  for (const [least, most] of ranges) {
    const expression = integerBetween(least, most);
    const edges = [least, most, 0, 9, 10, 99, 100, 999, 1000].flatMap((edge) => [edge, -edge]);
    for (const edge of edges) {
      for (let value = edge - 12; value <= edge + 12; value++) {
        assert.equal(
          matches(expression, value),
          value >= least && value <= most,
          `${value} of ${least} to ${most}`,
        );
      }
    }
  }
});

Deno.test("grammar: what can't be kept is refused by its place", () => {
  const wrong: [unknown, RegExp][] = [
    [{ type: "integer", multipleOf: 3 }, /^schema\.multipleOf: can't be kept here/],
    [{ type: "number", minimum: 3 }, /^schema\.minimum: can't be kept/],
    [{ not: {} }, /^schema\.not: can't be kept/],
    [{ type: "string", pattern: "a" }, /^schema\.pattern: can't be kept/],
    [{ type: "string", format: "uri" }, /^schema\.format: can't be kept; expected date, /],
    [{ type: "foo" }, /^schema\.type: is "foo"; expected string, /],
    [{ type: "array", uniqueItems: true }, /^schema\.uniqueItems/],
    [{ type: "object", properties: { a: { if: {} } } }, /^schema\.properties\.a\.if/],
    [{ type: "object", required: ["a"] }, /^schema\.required: names "a"/],
    [{ $ref: "#/$defs/none" }, /^schema\.\$ref: there is no #\/\$defs\/none/],
    [{ $ref: "https://example.com" }, /^schema\.\$ref: expected a place in the schema/],
    [{ $ref: "#" }, /is nothing but itself/],
    [
      { $defs: { a: { anyOf: [{ $ref: "#/$defs/a" }, { type: "null" }] } }, $ref: "#/$defs/a" },
      /refers to itself/,
    ],
    [
      { oneOf: [{ type: "integer" }, { type: "number" }] },
      /^schema\.oneOf: its schemas may be valid together/,
    ],
    [{ oneOf: [{ const: 1 }, { type: "integer" }] }, /^schema\.oneOf/],
    [{ allOf: [{}, {}] }, /^schema\.allOf/],
    [{ type: "integer", minimum: 5, maximum: 4 }, /no integer is between/],
    [{ type: "string", minLength: 5, maxLength: 4 }, /^schema\.maxLength: is less than minLength/],
    [{ enum: [] }, /^schema\.enum: has no value/],
    [{ type: "string", enum: [1] }, /^schema\.enum: has no value of its type/],
    [[], /^schema: is no schema/],
    [JSON.parse(`${'{"type":"array","items":'.repeat(80)}{}${"}".repeat(80)}`), /nested too deep/],
  ];
  for (const [schema, message] of wrong) {
    assert.throws(() => jsonSchemaGrammar(schema, "schema"), { name: "ApiError", message });
  }
});
