/** What the documentation says of keys, flags, commands and files, against the program. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parse } from "yaml";
import { ROOT } from "../scripts/compile.ts";
import { KEYS } from "../train/config/schema.ts";
import { refused, succeeded } from "./cli/cli.ts";
import { lorikeetHere } from "./cli/here.ts";
import {
  anchorsOf,
  commandsOf,
  DOCUMENTS,
  type FlagHelp,
  flagsOfHelp,
  linksOf,
  plain,
  read,
  tablesOf,
} from "./documents.ts";
import { CHAPTERS } from "./study/guide.ts";

const EXAMPLES = ["builtin.yaml", "alpaca_7b.yaml", "qlora_7b.yaml", "full_finetune.yaml"]
  .map((name) => `examples/${name}`);

/** The job scripts for Slurm. */
const JOBS = [...Deno.readDirSync(join(ROOT, "examples/slurm"))].map(({ name }) =>
  `examples/slurm/${name}`
);

/** Commands with a list of flags. `bench memory` has none but `--json`. */
const COMMANDS = [
  "train",
  "compare",
  "generate",
  "chat",
  "serve",
  "score",
  "evaluate",
  "merge",
  "convert",
  "doctor",
  "report",
  "watch",
  "bundle",
] as const;
const BENCHES = [
  "decode",
  "device",
  "kernels",
  "load",
  "peers",
  "save",
  "serve",
  "table1",
  "table2",
  "timeline",
]
  .concat("train", "tune");

let helps: Promise<Map<string, string>> | undefined;

/** What each command prints for `--help`, by its name; asked for once. */
function commandHelps(): Promise<Map<string, string>> {
  return helps ??= Promise.all([
    ...COMMANDS.map(async (name) => [name, await lorikeetHere(name, ["--help"])] as const),
    ...BENCHES.map(async (name) =>
      [`bench ${name}`, await lorikeetHere("bench", [name, "--help"])] as const
    ),
  ]).then((all) => new Map(all.map(([name, outcome]) => [name, succeeded(outcome)])));
}

Deno.test("README: at most 220 lines, and every document is listed", () => {
  const lines = read("README.md").trimEnd().split("\n").length;
  assert.ok(lines <= 220, `README.md has ${lines} lines; expected at most 220`);
  const pages = DOCUMENTS.filter((path) => !CHAPTERS.includes(path) && path !== "README.md");
  for (const index of ["README.md", "docs/README.md"]) {
    const listed = new Set(linksOf(index).map(({ target }) => target));
    const missing = pages.filter((path) => path !== "docs/README.md" && !listed.has(path));
    assert.deepEqual(missing, [], `${index} does not list them`);
  }
});

Deno.test("README: the map of the repository has every folder that git knows", async () => {
  const command = new Deno.Command("git", { args: ["ls-files"], cwd: ROOT });
  const { success, stdout } = await command.output().catch(() => ({
    success: false,
    stdout: new Uint8Array(),
  }));
  const files = new TextDecoder().decode(stdout).split("\n");
  // Without git, what is there.
  const folders = success
    ? files.filter((path) => path.includes("/")).map((path) => path.split("/")[0])
    : [...Deno.readDirSync(ROOT)].flatMap(({ name, isDirectory }) => isDirectory ? [name] : []);
  const map = read("README.md");
  for (const folder of new Set(folders.filter((name) => !name.startsWith(".")))) {
    if (["coverage", "dist", "runs"].includes(folder)) continue;
    assert.match(map, new RegExp(`^${folder}/ `, "m"));
  }
});

Deno.test("README: the measurements of the four techniques are those of docs/table2.md", () => {
  const [techniques] = tablesOf("README.md").filter(({ heading }) => heading[0] === "technique");
  const runs = tablesOf("docs/table2.md").find(({ heading }) => heading[3] === "checkpointing");
  assert.ok(techniques && runs);
  const column = (name: string) => runs.heading.findIndex((cell) => cell.startsWith(name));
  const picked = ["GA", "MP", "LoRA", "checkpointing", "optimizer", "peak", "runtime"].map(column);
  const measured = new Set(runs.rows.map((row) => picked.map((i) => row[i]).join(" ")));
  const settings = [
    "OFF OFF OFF none sgd",
    "ON OFF OFF none sgd",
    "ON ON OFF none sgd",
    "ON ON ON none adamw",
    "ON ON ON block adamw",
  ];
  assert.equal(techniques.rows.length, settings.length);
  techniques.rows.forEach((row, i) => {
    const shown = [settings[i], ...row.slice(-2)].join(" ");
    assert.ok(measured.has(shown), `docs/table2.md has no run "${shown}"`);
  });
});

Deno.test("configuration: the tables have every key with default, value and meaning", () => {
  const rows = tablesOf("docs/configuration.md").filter(({ heading }) => heading[0] === "key")
    .flatMap((table) => table.rows);
  const table = rows.map(([name, value, kind, meaning]) => [
    plain(name),
    {
      default: value ? parse(plain(value)) : undefined,
      value: plain(kind),
      meaning: plain(meaning),
    },
  ]);
  const keys = KEYS.map((key) => [
    key.name,
    {
      default: key.optional ? undefined : key.default,
      value: key.value,
      meaning: key.description,
    },
  ]);
  assert.deepEqual(Object.fromEntries(table), Object.fromEntries(keys));
  assert.equal(rows.length, KEYS.length);
});

Deno.test("commands: the tables have every flag of every command with default and meaning", async () => {
  const documented = new Map<string, FlagHelp[]>();
  const all = await commandHelps();
  for (const { before, heading, rows } of tablesOf("docs/commands.md")) {
    if (heading[0] !== "flag") continue;
    assert.match(before, /^Flags of (every command|`.*`):$/);
    const names = before.includes("every command")
      ? [...all.keys()]
      : [...before.matchAll(/`([a-z0-9 ]+)`/g)].map(([, name]) => name);
    const flags = rows.map(([flag, fallback, meaning]) => ({
      flag: plain(flag),
      fallback: plain(fallback),
      meaning: plain(meaning),
    }));
    for (const name of names) documented.set(name, [...documented.get(name) ?? [], ...flags]);
  }
  // Those of training are keys as well, in a table of their own.
  const training = new Set(KEYS.map(({ name }) => `--${name.replaceAll("_", "-")}`));
  const sorted = (flags: FlagHelp[]) => flags.sort((a, b) => a.flag < b.flag ? -1 : 1);
  for (const [name, help] of all) {
    const flags = flagsOfHelp(help);
    assert.ok(flags.length > 2, name);
    const expected = name === "train"
      ? flags.filter(({ flag }) => !training.has(flag.split(" ")[0]))
      : flags;
    assert.deepEqual(sorted(documented.get(name) ?? []), sorted(expected), name);
  }
  assert.deepEqual([...documented.keys()].filter((name) => !all.has(name)), []);
});

Deno.test("documents and examples name only flags that exist", async () => {
  const flagsOf = (text: string) => text.match(/--[a-z][a-z.-]*[a-z]/g) ?? [];
  const texts = [
    ...(await commandHelps()).values(),
    read("scripts/launch/help.txt"),
    read("bench/main.ts"),
  ];
  const jobs = JOBS.flatMap((path) => read(path).split("\n"));
  const slurms = jobs.filter((line) => line.startsWith("#SBATCH"));
  // The last is a flag of Deno's tests.
  const known = new Set([...texts, ...slurms].flatMap(flagsOf)).add("--filter");
  const commands = jobs.filter((line) => !line.startsWith("#"));
  const named = [...[...DOCUMENTS, ...EXAMPLES].map(read), ...commands].flatMap(flagsOf);
  assert.ok(named.length > 20);
  // A boolean's opposite is not in the help.
  const exists = (flag: string) => known.has(flag) || known.has(flag.replace(/^--no-/, "--"));
  assert.deepEqual(named.filter((flag) => !exists(flag)), []);
});

Deno.test("install: every dependency of deno.json is named", () => {
  const text = read("docs/install.md");
  for (const target of Object.values<string>(JSON.parse(read("deno.json")).imports)) {
    const name = target.replace(/@[^@/]*$/, "");
    assert.ok(text.includes(`\`${name}\``), `docs/install.md does not name ${name}`);
  }
});

/** A flag that no command has, and that is near none: what else is wrong is reported beside it. */
const UNKNOWN = "--zzzzzzzzzzzzzzzzzzzz";

Deno.test("documents: every command in a block of code parses", async () => {
  const commands = DOCUMENTS.flatMap(commandsOf).map((words) => words.join("\0"));
  assert.ok(commands.length > 40, `only ${commands.length} commands`);
  const launcher = read("scripts/launch/help.txt");
  const parsed: string[][] = [];
  for (const [name, ...rest] of [...new Set(commands)].map((line) => line.split("\0"))) {
    if (name === "bench" || COMMANDS.some((command) => command === name)) {
      parsed.push([name, ...rest]);
      continue;
    }
    // The others are the launcher's own: what they take are paths, and flags of Deno.
    assert.match(launcher, new RegExp(`^ +${name} +\\w`, "m"));
    const paths = rest.filter((word) => /^[a-z]+\//.test(word));
    for (const path of paths) Deno.statSync(join(ROOT, path));
  }
  assert.ok(parsed.length > 25, `only ${parsed.length} commands with flags`);
  for (const [name, ...flags] of parsed) {
    const command = name as typeof COMMANDS[number] | "bench";
    const outcome = await lorikeetHere(command, [...flags, UNKNOWN]);
    const said = outcome.stderr.trim();
    refused(outcome, 2, UNKNOWN);
    assert.equal(said.split("\n").length, 1, `${[name, ...flags].join(" ")}: ${said}`);
  }
});

Deno.test("documents link to files and headings that exist", () => {
  for (const path of DOCUMENTS) {
    const links = linksOf(path);
    assert.ok(links.length > 3 || CHAPTERS.includes(path) || path === "docs/table2.md", path);
    for (const { target, anchor } of links) {
      Deno.statSync(join(ROOT, target));
      if (anchor === undefined) continue;
      assert.ok(anchorsOf(target).includes(anchor), `${path}: ${target} has no heading ${anchor}`);
    }
  }
  const named = DOCUMENTS.flatMap((path) => read(path).match(/tests\/[a-z0-9_/]+\.ts/g) ?? []);
  assert.ok(named.length > 10);
  for (const path of named) Deno.statSync(join(ROOT, path));
});
