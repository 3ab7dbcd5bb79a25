/** Standard output and error that can't be written: a run goes on without them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  denoArguments,
  exists,
  smallData,
  startLorikeet,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { gpuTest } from "../kernels/harness.ts";

const flags = (folder: TemporaryFolder, output: string) => [
  ...["--model", "random:tiny", "--tokenizer", TOKENIZER, "--max-steps", "2"],
  ...["--data", folder.file("data.json", smallData(20)), "--output", output],
];

gpuTest("cli: a run goes on where the pipe that reads it is closed", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run");
  const run = await startLorikeet("train", flags(folder, output));
  await Promise.all([run.stdout.cancel(), run.stderr.cancel()]);
  assert.equal((await run.status).code, 0);
  assert.ok(exists(join(output, "adapter")));
});

const FULL =
  "cli: a run goes on where the disk of its log is full, and an error ends with its code";
// Elsewhere there is no /dev/full.
const full = Deno.build.os === "linux" ? gpuTest : Deno.test.ignore;
full(FULL, async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run");
  const run = async (streams: string) => {
    const args = await denoArguments("train", flags(folder, output));
    const command = `exec "$0" "$@" ${streams}`;
    const { code, stderr } = await new Deno.Command("sh", {
      args: ["-c", command, Deno.execPath(), ...args],
    }).output();
    return { code, stderr: new TextDecoder().decode(stderr) };
  };
  const { code, stderr } = await run(">/dev/full");
  assert.equal(code, 0, stderr);
  const said = stderr.match(/Standard output can't be written \(.*\): the work goes on/g) ?? [];
  assert.equal(said.length, 1, stderr);
  assert.ok(exists(join(output, "adapter")));
  assert.equal((await run(">/dev/full 2>&1")).code, 1); // the folder is there already
});

const RESULT = "cli: a result that can't be written is an error in words";
(Deno.build.os === "linux" ? Deno.test : Deno.test.ignore)(RESULT, async () => {
  using folder = new TemporaryFolder();
  for (const flag of ["--json", "--csv"]) {
    const args = await denoArguments("compare", [folder.path, flag]);
    const { code, stderr } = await new Deno.Command("sh", {
      args: ["-c", `exec "$0" "$@" >/dev/full`, Deno.execPath(), ...args],
    }).output();
    const said = new TextDecoder().decode(stderr);
    assert.equal(code, 1, said);
    assert.match(said, /^error: standard output can't be written: No space left on device .*\n$/);
  }
});
