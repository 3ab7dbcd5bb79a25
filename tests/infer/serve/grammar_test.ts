/** Schemas as grammars, and the masks that keep answers to them. */
import assert from "node:assert/strict";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ApiError } from "../../../infer/serve/api_error.ts";
import { GrammarMasks } from "../../../infer/serve/grammar/masks.ts";
import { integerBetween } from "../../../infer/serve/grammar/integer_range.ts";
import { jsonSchemaGrammar } from "../../../infer/serve/grammar/json_schema.ts";
import { numberBetween } from "../../../infer/serve/grammar/number_range.ts";
import { vocabularyOf } from "../../../infer/serve/grammar/vocabulary.ts";
import { openModelWithTokenizer } from "../../../model/checkpoint/source.ts";
import { stopTokens } from "../../../model/text/tokenizer/stop_tokens.ts";
import { random } from "../../kernels/harness.ts";
import { faultOf, record, SCHEMAS, several } from "./schemas.ts";

const { source, tokenizer } = await openModelWithTokenizer({ model: "builtin" });
source.weights?.close();
const stop = stopTokens(source.config, tokenizer, source.folder);
const size = source.config.vocab_size;
const masks = new GrammarMasks(vocabularyOf(tokenizer, { size, stop }));

/** Schemas that are drawn at random; LORIKEET_SCHEMAS=2000 draws so many. */
const SCHEMAS_DRAWN = Number(Deno.env.get("LORIKEET_SCHEMAS") ?? 60);

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

Deno.test("grammar: what zod makes for npm's openai is kept", async () => {
  const next = random(4);
  const { json_schema: { schema = {} } } = zodResponseFormat(
    z.object({
      mail: z.email(),
      id: z.uuid(),
      day: z.iso.date(),
      when: z.iso.datetime(),
      then: z.iso.datetime({ offset: true }),
      clock: z.iso.time(),
      host: z.ipv4(),
      count: z.int(),
      share: z.number().positive().max(1),
      name: z.string().min(2).max(8).nullable(),
      code: z.string().regex(/^[a-f]+-\d{2}$/),
      kind: z.enum(["a", "b"]),
      parts: z.array(z.object({ x: z.number().nonnegative() })).max(2),
      shape: z.discriminatedUnion("is", [
        z.object({ is: z.literal("dot") }),
        z.object({ is: z.literal("disc"), r: z.number().lt(10) }),
      ]),
    }),
    "all",
  );
  const record = z.toJSONSchema(z.record(z.string(), z.int().min(1)));
  for (const made of [...Array(8).fill(schema), record, record]) {
    const { $schema: _, ...plain } = made;
    const text = await drawn(made, 900, next);
    assert.ok(text !== undefined, "it has no end");
    assert.equal(faultOf(plain, JSON.parse(text)), undefined, text);
  }
});

/** Values that begin and end alike. */
const LIKE_TEXTS = ["a", "ab", "abb", "ca", "cab", "cabb"], LIKE_NUMBERS = [1, 12, 122, 31, 312];

/** A schema of anything that is understood, or refused. */
function anySchema(next: () => number, depth: number): Record<string, unknown> {
  const one = <T>(list: readonly T[]) => list[Math.floor((next() + 1) / 2 * list.length)];
  const some = <T>(key: string, values: readonly T[], share = 0.5) =>
    next() < 2 * share - 1 ? { [key]: one(values) } : {};
  const inner = () => anySchema(next, depth - 1);
  const bounds = (type: string) => ({
    type,
    ...some("minimum", [-20, 0, 0.5, 3], 0.4),
    ...some("exclusiveMinimum", [-3.25, 0, 1], 0.3),
    ...some("maximum", [3, 10.5, 400], 0.4),
    ...some("exclusiveMaximum", [4, 5, 100.125], 0.3),
  });
  const makers: (() => Record<string, unknown>)[] = [
    () => bounds("integer"),
    () => bounds("number"),
    () => ({ type: "boolean" }),
    () => ({ type: one(["null", "string"]) }),
    () => ({ type: "string", ...some("minLength", [0, 1, 4]), ...some("maxLength", [4, 9, 90]) }),
    () => ({ type: "string", format: one(["date", "uuid", "ipv4", "email", "time"]) }),
    () => ({ type: "string", pattern: one(Object.keys(PATTERNS)) }),
    () => ({
      enum: one([[1, "a", null], [true, { a: [1] }], LIKE_TEXTS, LIKE_NUMBERS]),
      ...some("type", ["string"]),
    }),
    () => ({ const: one([1, "a", null, [1, 2]]) }),
  ];
  if (depth > 0) {
    const names = ["a", "ab", "ba b"],
      object = () => {
        const properties = Object.fromEntries(
          names.filter(() => next() > 0).map((name) => [name, inner()]),
        );
        return {
          type: one(["object", "object", ["object", "null"]]),
          properties,
          required: Object.keys(properties).filter(() => next() > 0),
          ...some("additionalProperties", [true, false], 0.3),
        };
      };
    makers.push(
      object,
      object,
      () => ({ type: "object", additionalProperties: inner() }),
      () => ({
        type: "array",
        items: inner(),
        ...some("minItems", [1, 2]),
        ...some("maxItems", [2, 3]),
      }),
      () => ({
        type: "array",
        prefixItems: [inner(), inner()],
        items: one([false, { type: "null" }]),
        minItems: 2,
      }),
      () => ({
        anyOf: [inner(), inner()],
        ...some("type", ["integer", ["string", "object"]], 0.3),
      }),
      () => ({ oneOf: [inner(), inner()] }),
      () => ({ allOf: [object(), object()] }),
      () => ({ allOf: [inner(), inner()] }),
      () => ({ ...bounds("number"), allOf: [bounds("integer"), bounds("number")] }),
      () => ({ ...object(), anyOf: [object(), object()] }),
    );
  }
  return one(makers)();
}

Deno.test("grammar: of whatever schema is not refused, what a mask allows is valid", async () => {
  const next = random(3);
  let kept = 0;
  for (let i = 0; i < SCHEMAS_DRAWN; i++) {
    const schema = anySchema(next, 3);
    try {
      jsonSchemaGrammar(schema, "schema");
    } catch (error) {
      assert.ok(error instanceof ApiError, `${error}`);
      continue;
    }
    kept++;
    for (let j = 0; j < 2; j++) {
      // An answer without an end is cut, and says so.
      const text = await drawn(schema, 300, next);
      if (text === undefined) continue;
      const fault = faultOf(schema, JSON.parse(text));
      assert.equal(fault, undefined, `${JSON.stringify(schema)}: ${text}`);
    }
  }
  assert.ok(kept > SCHEMAS_DRAWN / 2, `${kept} of ${SCHEMAS_DRAWN} schemas were kept`);
});

Deno.test("grammar: values that begin and end alike are told from others", async () => {
  const schema = { enum: LIKE_TEXTS };
  for (const value of LIKE_TEXTS) assert.ok(await isPossible(schema, `"${value}"`), value);
  for (const value of ["abbb", "c", "caba", "cabbb", ""]) {
    assert.ok(!await isPossible(schema, `"${value}"`), value);
  }
  const wide = { type: "integer", minimum: -(2 ** 53), maximum: 2 ** 53 };
  for (const value of ["0", "-7", "123456789012345"]) {
    assert.ok(await isPossible(wide, value), value);
  }
  for (const value of ["-", "00", "1234567890123456", "-1234567890123456"]) {
    assert.ok(!await isPossible(wide, value), value);
  }
});

Deno.test("grammar: bounds of integers are kept at every edge", () => {
  const ranges = [[0, 0], [3, 17], [-5, 5], [-120, -7], [99, 101], [10, 1000], [-1, 0], [
    7,
    20_000,
  ]];
  const matches = (pattern: string, value: number) => new RegExp(`^(${pattern})$`).test(`${value}`);
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

/** Patterns, with texts that they match and that are to be possible. */
const PATTERNS: Readonly<Record<string, readonly string[]>> = {
  "^[A-Z]{2}-\\d{3,5}$": ["AB-123", "ZZ-00000"],
  "^(red|green|blue)(, (red|green|blue))*$": ["red", "blue, red, green"],
  "^\\w+([.-]\\w+)?@[a-z]+\\.(com|org)$": ["a_1.b@x.org"],
  "^#?(?:[\\da-f]{3}){1,2}$": ["#abc", "012def"],
  "^(?<year>\\d{4})/(0[1-9]|1[0-2])$": ["2026/11"],
  "^[^,;\\s]+$": ['a"b\\\\c'],
  "^[^,]+$": ["größer ☃ 😀"],
  "^.{3}$": ['a"\\', "x y"],
  "colou?r": ["the colour", "größer color!"],
  "^a|z$": ["abc", "xyz"],
  "^(|x)y?$": ["", "xy"],
  "^[\\]\\\\\\-^]{2}$": ["]-", "\\^"],
  "^\\S\\D\\W\\s$": ["ab! "],
  "^\\u00e9\\x41\\u{1F600}\\t[äöü]$": ["éA😀\tö"],
  "^[+-]?\\d+(\\.\\d+)??$": ["-12.5"],
  "^\\/\\$\\^\\(\\)\\{\\}\\.$": ["/$^(){}."],
};

Deno.test("grammar: strings match their patterns, and what matches is possible", async () => {
  const next = random(2);
  for (const [pattern, texts] of Object.entries(PATTERNS)) {
    const schema = { type: "string", pattern };
    for (let i = 0; i < 12; i++) {
      const text = await drawn(schema, 200, next);
      assert.ok(text !== undefined, `${pattern} has no end`);
      assert.equal(faultOf(schema, JSON.parse(text)), undefined, `${pattern}: ${text}`);
    }
    for (const text of texts) {
      assert.equal(faultOf(schema, text), undefined, `${pattern} does not match ${text}`);
      // A character beyond ASCII that a pattern names comes escaped.
      const forms = [JSON.stringify(text), escaped(JSON.stringify(text))];
      const possible = await Promise.all(forms.map((form) => isPossible(schema, form)));
      assert.ok(possible.includes(true), `${pattern} refuses ${text}`);
    }
  }
});

/** A text whose characters beyond ASCII are escaped as JSON does it. */
const escaped = (text: string) =>
  text.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Whether masks let a text come. */
async function isPossible(schema: unknown, text: string): Promise<boolean> {
  using mask = await masks.begin(jsonSchemaGrammar(schema, "schema"), 1000);
  // Without the space that a text begins with.
  const before = tokenizer.encode("a"), ids = tokenizer.encode(`a${text}`).slice(before.length);
  for (const id of [...ids, ...stop.slice(0, 1)]) {
    if (!idsOf(await mask.allowed(1000)).includes(id)) return false;
    mask.accept(id);
  }
  return true;
}

Deno.test("grammar: bounds of numbers are kept at every edge", async () => {
  const bounds = [-1000, -10.25, -1, -0.5, 0, 0.001, 0.5, 1, 1.05, 9.99, 10, 123.456, 1e6];
  const near = [0, 0.001, 0.01, 0.1, 0.4, 1, 9].flatMap((step) => [step, -step]);
  const texts = new Set(
    bounds.flatMap((bound) =>
      near.flatMap((step) =>
        [0, 1, 3].map((digits) => {
          return (bound + step).toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1");
        })
      )
    ),
  );
  for (const least of [...bounds, -Infinity]) {
    for (const most of [...bounds, Infinity]) {
      for (const excluded of [false, true]) {
        if (least > most || (least === -Infinity && most === Infinity)) continue;
        const expression = numberBetween({ value: least, excluded }, { value: most, excluded });
        const pattern = new RegExp(`^(${expression || "none"})$`);
        for (const text of texts) {
          const value = Number(text);
          const isValid = excluded
            ? value > least && value < most
            : value >= least && value <= most;
          assert.equal(pattern.test(text), isValid, `${text} of ${least} to ${most}`);
        }
      }
    }
  }
  assert.equal(await isPossible({ type: "number", exclusiveMinimum: 0, maximum: 1 }, "0.25"), true);
  assert.equal(
    await isPossible({ type: "number", exclusiveMinimum: 0, maximum: 1 }, "1.01"),
    false,
  );
});

Deno.test("grammar: other work goes on between grammars that are compiled", async () => {
  const grammars = several(
    4,
    (i) => jsonSchemaGrammar(record(several(250, (j) => `p${i}.${j}`)), "schema"),
  );
  // The longest that other work has waited, and what all took.
  let last = performance.now(), longest = 0, done = false;
  const began = last;
  const all = Promise.all(
    grammars.map(async (grammar) => (await masks.begin(grammar, 9))[Symbol.dispose]()),
  )
    .finally(() => done = true);
  while (!done) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }
  await all;
  const took = performance.now() - began;
  assert.ok(longest < took / 3, `${longest} ms of ${took} ms at once`);
});
