import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { openOutput } from "../../../infer/evaluate/output.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

Deno.test("outputs: an empty file is not left where nothing was written, and nothing of another's is lost", () => {
  using folder = new TemporaryFolder();
  const made = folder.file("made.json"), kept = folder.file("kept.json", "of a run before");
  {
    using _made = openOutput(made);
    using _kept = openOutput(kept);
    assert.equal(Deno.readTextFileSync(made), "");
  }
  assert.throws(() => Deno.statSync(made), Deno.errors.NotFound);
  assert.equal(Deno.readTextFileSync(kept), "of a run before");
});

Deno.test("outputs: what is written takes the place of what was there, and stays", () => {
  using folder = new TemporaryFolder();
  const made = folder.file("made.json"), kept = folder.file("kept.json", "of a run before");
  for (const path of [made, kept]) {
    {
      using output = openOutput(path);
      output?.write(["a", "b"]);
    }
    assert.equal(Deno.readTextFileSync(path), "ab");
  }
});

Deno.test("outputs: a file that can't be made is refused at once", () => {
  using folder = new TemporaryFolder();
  const path = join(folder.path, "missing", "made.json");
  assert.throws(() => openOutput(path), (error) => {
    assert(error instanceof UserError);
    assert.match(error.message, /^cannot write .*made\.json: its folder does not exist$/);
    return true;
  });
  assert.equal(openOutput(undefined), undefined);
});
