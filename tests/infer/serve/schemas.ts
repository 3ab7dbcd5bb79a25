/** Schemas of all kinds that a server keeps, and a validator that is not its own. */
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const person = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1, maxLength: 40 },
    age: { type: "integer", minimum: 0, maximum: 129 },
  },
  required: ["name", "age"],
  additionalProperties: false,
};

/** By name. */
export const SCHEMAS: Readonly<Record<string, Record<string, unknown>>> = {
  person,
  nested: {
    type: "object",
    properties: {
      team: { type: "array", items: person, minItems: 1, maxItems: 3 },
      at: {
        type: "object",
        properties: { x: { type: "number" }, y: { type: "number" } },
        required: ["x", "y"],
      },
      note: { type: ["string", "null"] },
    },
    required: ["team", "at"],
  },
  enums: {
    type: "object",
    properties: {
      colour: { enum: ["red", "green", 'a "quoted" \\ word', "größer ☃"] },
      level: { type: "integer", enum: [1, 2, 3, "four"] },
      kind: { const: { a: [1, null] } },
    },
    required: ["colour", "level", "kind"],
  },
  unions: {
    type: "object",
    properties: {
      value: { anyOf: [{ type: "integer" }, { type: "string", maxLength: 5 }, person] },
      shape: {
        oneOf: [
          { type: "object", properties: { is: { const: "dot" } }, required: ["is"] },
          {
            type: "object",
            properties: { is: { const: "disc" }, r: { type: "number" } },
            required: ["is", "r"],
          },
        ],
      },
    },
    required: ["value", "shape"],
  },
  optional: {
    type: "object",
    properties: {
      a: { type: "boolean" },
      b: { type: "null" },
      c: { type: "integer" },
      d: { type: "string" },
    },
    required: ["c"],
  },
  recursive: {
    $ref: "#/$defs/tree",
    $defs: {
      tree: {
        type: "object",
        properties: {
          label: { type: "string" },
          children: { type: "array", items: { $ref: "#/$defs/tree" } },
        },
        required: ["label", "children"],
      },
    },
  },
  long: {
    type: "array",
    items: { type: "string", minLength: 5, maxLength: 200 },
    minItems: 2,
    maxItems: 3,
  },
  tuple: {
    type: "array",
    prefixItems: [{ type: "string", format: "date" }, { type: "boolean" }],
    items: { type: "integer", exclusiveMinimum: -21, exclusiveMaximum: 1001 },
    minItems: 3,
    maxItems: 6,
  },
  map: {
    type: "object",
    additionalProperties: { type: "array", items: { type: "integer", minimum: 95 } },
  },
  formats: {
    type: "object",
    properties: {
      when: { type: "string", format: "date-time" },
      id: { type: "string", format: "uuid" },
      mail: { type: "string", format: "email" },
      host: { type: "string", format: "ipv4" },
      at: { type: "string", format: "time" },
    },
    required: ["when", "id", "mail", "host", "at"],
  },
  numbers: {
    type: "object",
    properties: {
      share: { type: "number", minimum: 0, maximum: 1 },
      price: { type: "number", exclusiveMinimum: 0, maximum: 99.95 },
      degrees: { type: ["number", "null"], minimum: -273.15, exclusiveMaximum: 100 },
      large: { type: "number", minimum: 1000.5 },
      small: { type: "number", exclusiveMaximum: -0.001 },
    },
    required: ["share", "price", "degrees", "large", "small"],
  },
  patterns: {
    type: "object",
    properties: {
      code: { type: "string", pattern: "^[A-Z]{2}-\\d{3,5}$" },
      path: { type: "string", pattern: "^(/[\\w.-]{1,8}){1,3}$" },
      word: { type: ["string", "null"], pattern: "ing$" },
      plain: { type: "string", pattern: '^[^"\\\\<>]{2,12}$' },
    },
    required: ["code", "path", "word", "plain"],
  },
  all: {
    type: "object",
    allOf: [
      { $ref: "#/$defs/named" },
      { properties: { age: { type: "number", minimum: 18 } }, required: ["age"] },
      { properties: { age: { type: "integer", maximum: 130 }, name: { maxLength: 30 } } },
      {
        oneOf: [
          {
            properties: {
              kind: { const: "bird" },
              wings: { type: "integer", minimum: 2, maximum: 2 },
            },
          },
          { properties: { kind: { const: "fish" }, fins: { type: "integer", minimum: 1 } } },
        ],
        required: ["kind"],
      },
    ],
    $defs: {
      named: {
        type: "object",
        properties: { name: { type: "string", minLength: 2 }, tags: { $ref: "#/$defs/tags" } },
        required: ["name"],
      },
      tags: { type: "array", items: { enum: ["a", "b"] }, maxItems: 3 },
    },
  },
  beside: {
    type: "object",
    properties: {
      id: { type: "integer", minimum: 1 },
      next: { $ref: "#", type: ["object", "null"] },
    },
    required: ["id"],
    anyOf: [
      { properties: { x: { type: "number" } }, required: ["x"] },
      { properties: { y: { type: "boolean" } }, required: ["y"] },
    ],
  },
  anything: {},
};

/** What is wrong with a value; undefined where it is valid. */
export function faultOf(schema: Record<string, unknown>, value: unknown): string | undefined {
  const ajv = new Ajv2020({ strict: false });
  (addFormats as unknown as (ajv: Ajv2020) => void)(ajv);
  return ajv.validate(schema, value) ? undefined : ajv.errorsText();
}

/** Several of something. */
export const several = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

/** A schema of an object with texts of these names. */
export const record = (names: readonly string[]): Record<string, unknown> => ({
  type: "object",
  properties: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
});
