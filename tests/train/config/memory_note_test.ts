/** A run's memory in its configuration. */
import assert from "node:assert/strict";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { memoryFigures, memoryNote, readMemoryNote } from "../../../train/config/memory_note.ts";

Deno.test("memory note: what is written is read, wherever it stands", () => {
  assert.equal(memoryFigures(new Memory()).total, 0);
  const figures = { total: 41.24, categories: { parameter: 2.112, workspace: 39.128 } };
  const note = memoryNote(figures);
  assert.equal(note, "# GPU memory: 41.24 MB (parameter 2.112, workspace 39.128)");
  assert.deepEqual(readMemoryNote(`seed: 42  # default\n${note}\n`), figures);
  for (const text of ["", "model: builtin\n", `model: "${note}"\n`, "# GPU memory: much MB ()"]) {
    assert.equal(readMemoryNote(text), undefined, text);
  }
});
