/** What the documentation says of keys, flags and files, against the program. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { ROOT } from "../scripts/compile.ts";
import { KEYS } from "../train/schema.ts";
import { lorikeet, succeeded } from "./cli/cli.ts";
import { CHAPTERS } from "./study/guide.ts";

const read = (path: string) => Deno.readTextFileSync(join(ROOT, path));

const DOCUMENTS = [
  ...[
    "README.md",
    "docs/training.md",
    "docs/inference.md",
    "docs/performance.md",
    "docs/compatibility.md",
  ],
  ...CHAPTERS,
];
const EXAMPLES = ["builtin.yaml", "alpaca_7b.yaml", "full_finetune.yaml"]
  .map((name) => `examples/${name}`);

Deno.test("README: the configuration table has every key with its default", () => {
  const rows = [...read("README.md").matchAll(/^\| `([a-z_.]+)` +\| (`[^`]+`)? +\|/gm)];
  const table = rows.map(([, name, value]) => [name, value && parse(value.slice(1, -1))]);
  const keys = KEYS.map((key) => [key.name, key.optional ? undefined : key.default]);
  assert.deepEqual(Object.fromEntries(table), Object.fromEntries(keys));
  assert.equal(rows.length, KEYS.length);
});

Deno.test("documents and examples name only flags that exist", async () => {
  const commands = ["train", "generate", "chat", "score", "merge", "convert"] as const;
  const helps = await Promise.all(
    commands.map(async (command) => succeeded(await lorikeet(command, ["--help"]))),
  );
  const benches = "decode device kernels load peers table1 table2 timeline train".split(" ");
  helps.push(
    ...await Promise.all(
      benches.map(async (name) => succeeded(await lorikeet("bench", [name, "--help"]))),
    ),
  );
  const flagsOf = (text: string) => text.match(/--[a-z][a-z.-]*[a-z]/g) ?? [];
  const known = new Set([...helps, read("lorikeet"), read("bench/main.ts")].flatMap(flagsOf));
  const named = [...DOCUMENTS, ...EXAMPLES].flatMap((path) => flagsOf(read(path)));
  assert.ok(named.length > 20);
  assert.deepEqual(named.filter((flag) => !known.has(flag)), []);
});

Deno.test("documents link to files that exist", () => {
  for (const path of DOCUMENTS) {
    const links = [...read(path).matchAll(/\]\(([^)#][^)]*)\)/g)].map(([, target]) => target);
    assert.ok(links.length > 3 || CHAPTERS.includes(path), path);
    for (const link of links) Deno.statSync(join(ROOT, dirname(path), link));
  }
  const named = DOCUMENTS.flatMap((path) => read(path).match(/tests\/[a-z_/]+\.ts/g) ?? []);
  for (const path of named) Deno.statSync(join(ROOT, path));
});
