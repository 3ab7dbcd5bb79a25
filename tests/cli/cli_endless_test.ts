/** What has no end is refused where a file is expected, by every command that reads one. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../../scripts/compile.ts";
import { exists, lorikeet, refused, TemporaryFolder } from "./cli.ts";
import type { ProgramName } from "../../scripts/launch/permissions.ts";

/** Every place of a command line that names a file or folder to read, `PATH` where it stands. */
const PLACES: Record<string, [ProgramName, ...string[]]> = {
  "a configuration": ["train", "PATH"],
  "data": ["train", "--model", "builtin", "--data", "PATH"],
  "a model": ["train", "--model", "PATH", "--data", "builtin"],
  "a tokenizer": ["train", "--model", "builtin", "--tokenizer", "PATH"],
  "an adapter": ["train", "--model", "builtin", "--adapter", "PATH"],
  "a state": ["train", "--model", "builtin", "--resume", "PATH"],
  "data to score": ["score", "--model", "builtin", "--data", "PATH"],
  "a conversation": ["generate", "--model", "builtin", "--messages", "PATH"],
  "questions": ["generate", "--model", "builtin", "--data", "PATH"],
  "a model to convert": ["convert", "--model", "PATH", "--output", "out"],
  "an adapter to merge": ["merge", "--model", "builtin", "--adapter", "PATH", "--output", "out"],
};

/** Files of a model's folder that a pipe can stand in the place of. */
const FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/** Runs a command, which is ended after two seconds of its own. */
async function refusedSoon(args: readonly string[], path: string, pattern: RegExp): Promise<void> {
  const [command, ...rest] = args.map((arg) => arg === "PATH" ? path : arg);
  const outcome = await Promise.race([
    lorikeet(command as ProgramName, rest),
    new Promise<never>((_, reject) =>
      Deno.unrefTimer(setTimeout(() => reject(new Error(`${args.join(" ")} does not end`)), 20_000))
    ),
  ]);
  refused(outcome, outcome.code as 1 | 2, pattern);
  assert.ok(outcome.code === 1 || outcome.code === 2);
}

function makePipe(path: string): void {
  const { success } = new Deno.Command("mkfifo", { args: [path] }).outputSync();
  assert.ok(success, "mkfifo");
}

const posix = { ignore: Deno.build.os === "windows" };

Deno.test(
  "cli: pipes and devices are refused wherever a file is named",
  posix,
  async () => {
    using folder = new TemporaryFolder();
    const pipe = join(folder.path, "pipe");
    makePipe(pipe);
    const all = Deno.env.get("LORIKEET_ALL_INPUTS") !== undefined;
    const odd: [string, RegExp][] = [[pipe, /a pipe/], ["/dev/zero", /a device/]];
    for (const [i, args] of Object.values(PLACES).entries()) {
      for (const [path, what] of all ? odd : [odd[i % odd.length]]) {
        // What is no folder has no state in it, whatever else it is.
        await refusedSoon(args, path, args.includes("--resume") ? /^error: / : what);
      }
    }
    assert.ok(!exists("out"));
  },
);

Deno.test(
  "cli: the launcher reads no pipe, no device and no large file either",
  posix,
  async () => {
    using folder = new TemporaryFolder();
    const pipe = join(folder.path, "pipe.yaml");
    makePipe(pipe);
    const large = folder.file("large.yaml", "key: 1\n".repeat(200_000));
    for (const path of [pipe, "/dev/zero", large]) {
      const { code, stderr } = await new Deno.Command("timeout", {
        args: ["30", join(ROOT, "lorikeet"), "train", path],
        stdin: "null",
        stdout: "null",
      }).output();
      assert.equal(code, 2);
      assert.match(new TextDecoder().decode(stderr), /^error: .*(a pipe|a device|1400000 bytes)/m);
    }
  },
);

Deno.test("cli: a pipe in a model's folder is refused by name", posix, async () => {
  for (const name of FILES) {
    using folder = new TemporaryFolder();
    const model = join(folder.path, "model"), from = join(ROOT, "examples/builtin/model");
    Deno.mkdirSync(model);
    for (const { name } of Deno.readDirSync(from)) {
      Deno.symlinkSync(join(from, name), join(model, name));
    }
    const path = join(model, name);
    if (exists(path)) Deno.removeSync(path);
    makePipe(path);
    const args = ["generate", "--model", model, "--prompt", "a"];
    await refusedSoon(args, "", new RegExp(`${name}.*pipe`));
  }
});

Deno.test({
  name: "cli: what is standard input under a file's name is refused without Deno's advice",
  ignore: Deno.build.os !== "linux",
  async fn() {
    for (const path of ["/dev/stdin", "/dev/full", "/proc/self/fd/0", "/dev"]) {
      const [inFile, inData] = [["train", path], ["train", "--data", path]] as const;
      for (const args of path === "/dev" ? [inData] : [inFile, inData]) {
        await refusedSoon(args, path, /^error: cannot read \/.*: it is among the system's own/);
      }
    }
  },
});
