/** The key that names what a run learns from: a file, or a mixture. */
import assert from "node:assert/strict";
import { parse, parseYaml, refused } from "./config_parsing.ts";

Deno.test("data: one file is a path, several are entries, by flags or in a file", () => {
  assert.deepEqual(parse("--data", "a, b.json").data, [{ path: "a" }, { path: "b.json" }]);
  assert.equal(parse("--data", "a", "--data", "b").data, "b");
  assert.equal(parseYaml("data: a, b").data, "a, b");
  assert.equal(parseYaml("data: [a]").data, "a");
  const mixture = parseYaml(
    "data: [{path: a, weight: 3}, {path: b, weight: 0.5, samples: 7, format: text}]",
  );
  assert.deepEqual(mixture.data, [
    { path: "a", weight: 3 },
    { path: "b", weight: 0.5, samples: 7, format: "text" },
  ]);
  assert.deepEqual(parseYaml("data: [a, {path: b, samples: 1}]").data, [
    { path: "a" },
    { path: "b", samples: 1 },
  ]);
});

Deno.test("data: a flag that ends with a comma is refused", () => {
  refused(() => parse("--data", "a,"), /^--data: entry 2 is ""; expected a path/);
});

const faults: [data: string, RegExp][] = [
  ["[]", /data \(.*\) is \[\]; expected a JSON, .* or a list of such, each a path or path, weight/],
  ["7", /data \(.*\) is 7; expected a JSON, JSON Lines, CSV/],
  ["[a, 7]", /data \(.*\): entry 2 is 7; expected a path, or path, weight, samples or format/],
  ["[a, '']", /entry 2 is ""; expected a path/],
  [
    "[{path: a, wieght: 1}]",
    /entry 1 has "wieght"; did you mean "weight"\?; expected path, weight/,
  ],
  ["[{weight: 1}]", /entry 1 has no path; expected a JSON, JSON Lines/],
  ["[{path: a, weight: 0}]", /entry 1 has weight 0; expected a number above 0/],
  ["[{path: a, weight: x}]", /entry 1 has weight "x"; expected a number above 0/],
  ["[{path: a, samples: 0.5}]", /entry 1 has samples 0\.5; expected a whole number of at least 1/],
  ["[{path: a, format: csv}]", /entry 1 has format "csv"; expected one of auto, alpaca/],
  ["[{path: a, weight: 1}, b]", /data has weights, but "b" has none; expected a weight for each/],
];
for (const [data, message] of faults) {
  Deno.test(`data: ${data} is refused`, () => refused(() => parseYaml(`data: ${data}`), message));
}

Deno.test("long_samples: one of three words", () => {
  assert.equal(parse("--long-samples", "split").long_samples, "split");
  refused(
    () => parse("--long-samples", "wrap"),
    /--long-samples is "wrap"; expected one of cut, d/,
  );
});

Deno.test("template_date: a day that there is, and nothing else", () => {
  for (const date of ["2024-02-29", "2026-12-31"]) {
    assert.equal(parse("--template-date", date).template_date, date);
  }
  for (const date of ["2026-13-01", "2026-02-29", "2026-1-1", "today"]) {
    refused(
      () => parse("--template-date", date),
      new RegExp(`^--template-date is "${date}"; expected a date such as 2026-01-31`),
    );
  }
});
