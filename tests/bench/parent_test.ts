/** A run ends with the series that started it, and any other goes on. */
import assert from "node:assert/strict";
import { PARENT } from "../../bench/parent.ts";

const MODULE = new URL("../../bench/parent.ts", import.meta.url).href;
/** Says when it is ready, then waits: `alive` is what it says if nothing ends it. */
const run = (milliseconds: number) =>
  `import { endWithParent } from "${MODULE}"; endWithParent(); console.log("ready");
   setTimeout(() => console.log("alive"), ${milliseconds});`;

/** What a run says whose parent, a shell, is killed once it is ready. */
async function orphaned(set: string, milliseconds: number): Promise<string> {
  const shell = new Deno.Command("sh", {
    args: ["-c", `${set} "$0" eval "$1" & wait`, Deno.execPath(), run(milliseconds)],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let said = "";
  // The pipe ends with the last process that holds it.
  for await (const text of shell.stdout.pipeThrough(new TextDecoderStream())) {
    said += text;
    if (text.includes("ready")) shell.kill("SIGKILL");
  }
  await shell.status;
  return said;
}

Deno.test("a run of a series ends when the series is killed", async () => {
  assert.equal(await orphaned(`${PARENT}=$$`, 30_000), "ready\n");
});

Deno.test("a run whose series is gone before it begins ends at once", async () => {
  assert.equal(await orphaned(`${PARENT}=1000000000`, 30_000), "");
});

Deno.test("a run that no series started goes on without its parent", async () => {
  assert.equal(await orphaned("", 1500), "ready\nalive\n");
});
