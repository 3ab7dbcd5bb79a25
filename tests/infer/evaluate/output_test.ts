import assert from "node:assert/strict";
import { join } from "node:path";
import { UsageError, UserError } from "../../../kernels/errors.ts";
import { openOutputs } from "../../../infer/evaluate/output.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

Deno.test("outputs: an empty file is not left where nothing was written, and nothing of another's is lost", () => {
  using folder = new TemporaryFolder();
  const made = folder.file("made.json"), kept = folder.file("kept.json", "of a run before");
  {
    using _outputs = openOutputs({ output: made, log_samples: kept });
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
      using outputs = openOutputs({ output: path });
      outputs.results?.write(["a", "b"]);
    }
    assert.equal(Deno.readTextFileSync(path), "ab");
  }
});

Deno.test("outputs: a file that can't be made is refused at once", () => {
  using folder = new TemporaryFolder();
  const path = join(folder.path, "missing", "made.json");
  assert.throws(
    () => openOutputs({ output: folder.file("results.json"), log_samples: path }),
    (error) => {
      assert(error instanceof UserError);
      assert.match(error.message, /^cannot write .*made\.json: its folder does not exist$/);
      return true;
    },
  );
  assert.throws(() => Deno.statSync(folder.file("results.json")), Deno.errors.NotFound);
  using none = openOutputs({});
  assert.deepEqual([none.results, none.samples], [undefined, undefined]);
});

Deno.test("outputs: both in one file are refused, however it is called, and no file is left", () => {
  using folder = new TemporaryFolder();
  const output = folder.file("made.json"), link = folder.file("link.json");
  Deno.symlinkSync(output, link);
  for (const log_samples of [output, join(folder.path, "./made.json"), link]) {
    assert.throws(() => openOutputs({ output, log_samples }), (error) => {
      assert(error instanceof UsageError);
      assert.match(
        error.message,
        /^--log-samples names the file of --output, .*; expected another$/,
      );
      return true;
    });
    assert.throws(() => Deno.statSync(output), Deno.errors.NotFound);
  }
});
