/** The files of metrics: what fails for a while is missing nowhere, and what goes on is cut back first. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { CsvFile } from "../../../train/metrics/csv_file.ts";
import { eventRecords } from "../../../train/metrics/event.ts";
import { EventFile } from "../../../train/metrics/event_file.ts";
import { RetriedWrites } from "../../../train/metrics/retried_writes.ts";
import { LineFile } from "../../../train/run/line_file.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

/** What a function says on standard error, a line each. */
function noted(does: () => void): string[] {
  const lines: string[] = [], { error } = console;
  console.error = (line: string) => void lines.push(line);
  try {
    does();
  } finally {
    console.error = error;
  }
  return lines;
}

Deno.test("metrics: what can't be written waits, in order, and is said once", () => {
  const written: number[] = [];
  let full = false;
  const writes = new RetriedWrites<number>("metrics.x", (value) => {
    if (full || value === 5) throw new Error("cannot write metrics.x: no space left");
    written.push(value);
  });
  assert.deepEqual(noted(() => writes.add(1)), []);
  full = true;
  assert.deepEqual(noted(() => [2, 3].forEach((value) => writes.add(value))), [
    "cannot write metrics.x: no space left; the run goes on, and tries again at every step",
  ]);
  full = false;
  assert.deepEqual(noted(() => writes.add(4)), [
    "metrics.x is written again, nothing is missing.",
  ]);
  assert.deepEqual(written, [1, 2, 3, 4]);
  writes.end();
  assert.equal(noted(() => [5, 6].forEach((value) => writes.add(value))).length, 1);
  assert.throws(() => writes.end(), /no space left; its last 2 entries are missing$/);
  assert.deepEqual(written, [1, 2, 3, 4]);
});

Deno.test("metrics: a file that goes on says whether it lacks steps in its middle", () => {
  using folder = new TemporaryFolder();
  const text = (...steps: number[]) => steps.map((step) => `{"step":${step}}\n`).join("");
  const opened = (steps: number[], at: number) => {
    using file = new LineFile(folder.file("metrics.jsonl", text(...steps)), at);
    return { last: file.last?.step, hasGap: file.hasGap };
  };
  assert.deepEqual(opened([1, 2, 3, 4], 3), { last: 3, hasGap: false });
  assert.deepEqual(opened([1, 2, 4], 4), { last: 4, hasGap: true });
  assert.deepEqual(opened([1, 2, 4], 2), { last: 2, hasGap: false });
  // A run from another's state begins where that ends.
  assert.deepEqual(opened([6, 7], 7), { last: 7, hasGap: false });
  assert.deepEqual(opened([], 0), { last: undefined, hasGap: false });
});

/** Has every write to a file end after some bytes with an error, as on a full disk. */
function failing(bytes: number, does: () => void): void {
  const { writeSync } = Deno.FsFile.prototype;
  let left = bytes;
  Deno.FsFile.prototype.writeSync = function (data) {
    if (left === 0) throw Object.assign(new Error("no space left"), { code: "ENOSPC" });
    const some = data.subarray(0, left);
    left -= some.length;
    return writeSync.call(this, some);
  };
  try {
    does();
  } finally {
    Deno.FsFile.prototype.writeSync = writeSync;
  }
}

Deno.test("metrics: a write that fails half-way leaves nothing in CSV and event files", () => {
  using folder = new TemporaryFolder();
  const lines = folder.file("lines.jsonl", '{"step":1,"loss":0.5}\n{"step":2,"loss":null}\n');
  using csv = new CsvFile(folder.file("lines.csv"), ["step", "loss"], lines);
  using events = new EventFile(folder.file("tensorboard"), 0);
  failing(3, () => {
    assert.throws(() => csv.write({ step: 3, loss: 2 }), /cannot write .*lines\.csv: no space/);
  });
  failing(20, () => {
    assert.throws(() => events.write(3, { loss: 2 }), /cannot write .*tfevents.*: no space/);
  });
  csv.write({ step: 4, loss: NaN });
  events.write(4, { loss: NaN });
  assert.equal(Deno.readTextFileSync(csv.path), "step,loss\n1,0.5\n2,\n4,\n");
  const steps = [...eventRecords(Deno.readFileSync(events.path))].map(({ step }) => step);
  assert.deepEqual(steps, [0, 1, 4]);
});

Deno.test("metrics: a CSV file is refused where the lines that it is made of are broken", () => {
  using folder = new TemporaryFolder();
  const broken = folder.file("lines.jsonl", '{"step":1}\n{"st\n{"step":3}\n');
  const path = join(folder.path, "lines.csv");
  assert.throws(() => new CsvFile(path, ["step"], broken), /lines\.jsonl: line 2 is no JSON$/);
});
