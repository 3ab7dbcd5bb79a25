/** The examples in mod.ts's doc comment, run as a reader would run them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { launcherPermissions, ROOT } from "../scripts/compile.ts";
import { nativePermissions, TemporaryFolder } from "./cli/cli.ts";
import { gpuTest } from "./kernels/harness.ts";

/** The code of the examples of a module's doc comment. */
function examples(source: string): string[] {
  const comment = source.slice(0, source.indexOf("*/")).replaceAll(/^ \* ?/gm, "");
  return Array.from(comment.matchAll(/^```ts\n(.*?)^```/gms), ([, code]) => code);
}

const EXAMPLES = [
  { what: "answers a prompt", command: "generate", says: /\S/ },
  { what: "trains", command: "train", says: /^step 1: loss \d+\.\d{4}\nstep 2: .*\nThe adapter/ },
];

for (const [i, { what, command, says }] of EXAMPLES.entries()) {
  gpuTest(`mod.ts: the example in its doc comment that ${what} runs`, async () => {
    const path = join(ROOT, "mod.ts");
    const all = examples(Deno.readTextFileSync(path)), code = all[i];
    assert.equal(all.length, EXAMPLES.length);
    assert.ok(code.includes('"./mod.ts"'), "the example imports mod.ts");
    using folder = new TemporaryFolder();
    const file = folder.file(
      "example.ts",
      code.replaceAll('"./mod.ts"', JSON.stringify(pathToFileURL(path).href)),
    );
    const { code: status, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-check", "--frozen", "--config", join(ROOT, "deno.json")],
        ...await launcherPermissions(command),
        ...nativePermissions(),
        file,
      ],
      cwd: folder.path,
      stdin: "null",
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
    assert.equal(status, 0, text(stderr));
    assert.match(text(stdout), says);
  });
}
