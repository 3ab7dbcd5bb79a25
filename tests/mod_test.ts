/** The example in mod.ts's doc comment, run as a reader would run it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { launcherPermissions, ROOT } from "../scripts/compile.ts";
import { nativePermissions, TemporaryFolder } from "./cli/cli.ts";
import { gpuTest } from "./kernels/harness.ts";

/** The code of the first example of a module's doc comment. */
function example(source: string): string {
  const comment = source.slice(0, source.indexOf("*/")).replaceAll(/^ \* ?/gm, "");
  const code = /^```ts\n(.*?)^```/ms.exec(comment)?.[1];
  assert.ok(code, "the doc comment has no example");
  return code;
}

gpuTest("mod.ts: the example in its doc comment runs", async () => {
  const path = join(ROOT, "mod.ts");
  const code = example(Deno.readTextFileSync(path));
  assert.ok(code.includes('"./mod.ts"'), "the example imports mod.ts");
  using folder = new TemporaryFolder();
  const file = folder.file(
    "example.ts",
    code.replaceAll('"./mod.ts"', JSON.stringify(pathToFileURL(path).href)),
  );
  const { code: status, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--frozen", "--config", join(ROOT, "deno.json")],
      ...await launcherPermissions("generate"),
      ...nativePermissions(),
      file,
    ],
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  assert.equal(status, 0, text(stderr));
  assert.match(text(stdout), /\S/);
});
