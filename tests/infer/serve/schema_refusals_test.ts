/** Schemas that no grammar keeps, or that are too large for one. */
import assert from "node:assert/strict";
import { jsonSchemaGrammar } from "../../../infer/serve/grammar/json_schema.ts";
import { record, several } from "./schemas.ts";

Deno.test("grammar: what can't be kept is refused by its place", () => {
  const many = several(120, (i) => `q${i}`);
  const wrong: [unknown, RegExp][] = [
    [{ type: "integer", multipleOf: 3 }, /^schema\.multipleOf: can't be kept here/],
    [{ type: "number", minimum: 1, maximum: 0 }, /^schema: no number is between its bounds/],
    [{ type: "number", minimum: 1e300 }, /^schema: has a bound of too many digits/],
    [{ type: "number", minimum: "1" }, /^schema\.minimum: expected a number/],
    [{ type: "number", multipleOf: 0.1 }, /^schema\.multipleOf: can't be kept/],
    [{ not: {} }, /^schema\.not: can't be kept/],
    [{ type: "string", pattern: "a", maxLength: 3 }, /^schema\.maxLength: can't be kept/],
    [{ type: "string", pattern: "(" }, /^schema\.pattern: is no regular expression/],
    [{ type: "string", pattern: "a(?=b)" }, /^schema\.pattern: \(\?= can't be kept/],
    [{ type: "string", pattern: "(?<!a)b" }, /^schema\.pattern: \(\?< can't be kept/],
    [{ type: "string", pattern: "(a)\\1" }, /^schema\.pattern: \\1 can't be kept/],
    [{ type: "string", pattern: "(?<x>a)\\k<x>" }, /^schema\.pattern: \\k can't be kept/],
    [{ type: "string", pattern: "\\bword" }, /^schema\.pattern: \\b can't be kept/],
    [{ type: "string", pattern: "\\p{L}+" }, /^schema\.pattern: \\p can't be kept/],
    [{ type: "string", pattern: "(^a)" }, /^schema\.pattern: \^ within a pattern can't be kept/],
    [{ type: "string", pattern: "a$b" }, /^schema\.pattern: \$ within a pattern/],
    [{ type: "string", pattern: "^a{1,9999}$" }, /^schema\.pattern: a repetition of more than 256/],
    [{ type: "string", pattern: "[\u4e00-\u9fff]" }, /beyond ASCII can't be kept/],
    [{ type: "string", pattern: "[]" }, /a class of no character can't be kept/],
    [{ type: "string", pattern: 1 }, /^schema\.pattern: expected a text/],
    [{ type: "string", pattern: "(x+x+)+y" }, /^schema\.pattern: is too large/],
    [{ type: "string", format: "uri" }, /^schema\.format: can't be kept; expected date, /],
    [{ type: "foo" }, /^schema\.type: is "foo"; expected string, /],
    [{ type: "array", uniqueItems: true }, /^schema\.uniqueItems/],
    [{ type: "object", properties: { a: { if: {} } } }, /^schema\.properties\.a\.if/],
    [{ type: "object", required: ["a"] }, /^schema\.required: names "a"/],
    [{ $ref: "#/$defs/none" }, /^schema\.\$ref: there is no #\/\$defs\/none/],
    [{ $ref: "https://example.com" }, /^schema\.\$ref: expected a place in the schema/],
    [{ $ref: "#" }, /is nothing but itself/],
    [{ enum: several(1001, (i) => i) }, /^schema\.enum: has too many values: 1001 in the whole/],
    [
      { anyOf: several(300, (i) => ({ enum: several(4, (j) => `${i}.${j}`) })) },
      /^schema\.anyOf\[250\]\.enum: has too many values: 1004 in the whole/,
    ],
    [{ oneOf: several(301, (i) => ({ const: i })) }, /^schema\.oneOf: has too many schemas: 301 /],
    [
      {
        properties: { a: record(several(200, (i) => `p${i}`)), b: record(["c"]), c: record(many) },
      },
      /^schema\.properties\.\w\.properties: has too many properties: 3\d\d in the whole/,
    ],
    [
      { enum: several(900, (i) => `${i * 7919 % 9973}`.repeat(9)) },
      /^schema: the schema is too large for a grammar; expected fewer properties/,
    ],
    [
      { $defs: { a: { anyOf: [{ $ref: "#/$defs/a" }, { type: "null" }] } }, $ref: "#/$defs/a" },
      /refers to itself/,
    ],
    [
      { oneOf: [{ type: "integer" }, { type: "number" }] },
      /^schema\.oneOf: its schemas may be valid together/,
    ],
    [{ oneOf: [{ const: 1 }, { type: "integer" }] }, /^schema\.oneOf/],
    [
      { allOf: [{ type: "string" }, { type: "null" }] },
      /^schema\.allOf\[1\]\.type: has nothing in/,
    ],
    [
      { allOf: [{ enum: [1, 2] }, { const: 3 }] },
      /^schema\.allOf\[1\]\.enum: has nothing in common/,
    ],
    [
      { allOf: [{ type: "string", pattern: "a" }, { pattern: "b" }] },
      /^schema\.allOf\[1\]\.pattern: can't be kept beside/,
    ],
    [
      {
        allOf: [
          { type: "object", properties: { a: {} }, additionalProperties: false },
          { properties: { b: {} } },
        ],
      },
      /^schema\.allOf\[0\]\.additionalProperties: can't be kept beside another schema's property "b"/,
    ],
    [{ allOf: [{ items: {} }, { prefixItems: [{}] }] }, /^schema\.allOf\[1\]\.prefixItems: can't/],
    [{ allOf: [{ minimum: 5, type: "number" }, { maximum: 4 }] }, /no number is between/],
    [{ allOf: [{ not: {} }] }, /^schema\.not: can't be kept/],
    [{ allOf: 1 }, /^schema\.allOf: expected a list of schemas/],
    [{ allOf: [{ $ref: "#" }] }, /refers to itself/],
    [{ enum: [1, 2], minimum: 2 }, /^schema\.minimum: can't be kept/],
    [{ type: "object", minProperties: 1 }, /^schema\.minProperties/],
    [{ type: "object", propertyNames: { maxLength: 3 } }, /^schema\.propertyNames: can't be kept/],
    [
      { type: "string", format: "date", pattern: "^2" },
      /^schema\.pattern: can't be kept here beside/,
    ],
    [{ type: "object", dependentRequired: {} }, /^schema\.dependentRequired/],
    [{ type: "array", contains: {} }, /^schema\.contains/],
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
