/**
 * TensorBoard's event files: bytes that its own readers were seen to read (tests/fixtures/check_tensorboard.py), and files
 * that are cut back where a run is resumed.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../../../scripts/compile.ts";
import { crc32c } from "../../../train/metrics/crc32c.ts";
import { eventRecords } from "../../../train/metrics/event.ts";
import { EventFile } from "../../../train/metrics/event_file.ts";
import type { EvaluationLine, MetricsLine } from "../../../train/metrics/lines.ts";
import {
  evaluationScalars,
  evaluationTexts,
  stepScalars,
} from "../../../train/metrics/tensorboard.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { assertSameValues } from "../../same.ts";

const FIXTURE = join(ROOT, "tests/fixtures/tensorboard");

const linesOf = <T>(name: string): T[] =>
  Deno.readTextFileSync(join(FIXTURE, name)).trimEnd().split("\n").map((line) => JSON.parse(line));
const STEPS = linesOf<MetricsLine>("metrics.jsonl");
const EVALUATIONS = linesOf<EvaluationLine>("evaluations.jsonl");

/** Files of a folder, by name. */
const filesIn = (folder: string) =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).sort().map((name) =>
    [name, Deno.readFileSync(join(folder, name))] as const
  );

/** Writes steps from one to another as a run that goes on from `step` would. */
function writeSteps(folder: string, step: number, last: number, begin: number): void {
  let now = begin;
  using file = new EventFile(folder, step, () => now += 0.25);
  for (const line of STEPS.filter((line) => line.step > step && line.step <= last)) {
    file.write(line.step, stepScalars(line, 41.25, []));
    const evaluation = EVALUATIONS.find((evaluation) => evaluation.step === line.step);
    if (evaluation === undefined) continue;
    file.write(line.step, evaluationScalars(evaluation, []), evaluationTexts(evaluation));
  }
}

Deno.test("event files: CRC-32C of the vectors of RFC 3720", () => {
  const counting = Uint8Array.from({ length: 32 }, (_, i) => i);
  const vectors: [Uint8Array, number][] = [
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [counting, 0x46dd794e],
    [counting.toReversed(), 0x113fdb5c],
    [new TextEncoder().encode("123456789"), 0xe3069283],
    [new Uint8Array(), 0],
  ];
  for (const [bytes, expected] of vectors) assert.equal(crc32c(bytes), expected);
});

Deno.test("event files: the bytes are those that TensorBoard's readers read", () => {
  using folder = new TemporaryFolder();
  const written = folder.file("tensorboard"), kept = join(FIXTURE, "tensorboard");
  // The run was killed after its sixth step, and goes on from its fourth, in the same second as it seems.
  writeSteps(written, 0, 6, 1_800_000_000);
  writeSteps(written, 4, STEPS.length, 1_800_000_000);
  if (Deno.env.get("LORIKEET_UPDATE_GOLDEN") === "1") {
    Deno.mkdirSync(kept, { recursive: true });
    for (const [name, bytes] of filesIn(written)) Deno.writeFileSync(join(kept, name), bytes);
  }
  const files = filesIn(written), expected = filesIn(kept);
  assert.deepEqual(files.map(([name]) => name), expected.map(([name]) => name));
  assert.equal(files.length, 2);
  files.forEach(([name, bytes], i) => assertSameValues(bytes, expected[i][1], name));
});

Deno.test("event files: TensorBoard's readers found every number of metrics.jsonl and evaluations.jsonl", () => {
  const { scalars, texts } = JSON.parse(Deno.readTextFileSync(join(FIXTURE, "read.json")));
  const float = (value: unknown) => value === null ? null : Math.fround(Number(value));
  const compare = (tag: string, lines: { step: number }[], field: string) => {
    const values = lines.map((line) =>
      [line.step, float((line as unknown as Record<string, unknown>)[field])] as const
    );
    assert.deepEqual(scalars[tag], values, tag);
  };
  const fields = ["loss", "epoch", "learning_rate", "grad_norm", "loss_scale", "skipped", "tokens"];
  for (const field of [...fields, "seconds"]) compare(`train/${field}`, STEPS, field);
  for (const field of ["loss", "perplexity", "tokens", "seconds"]) {
    compare(`eval/${field}`, EVALUATIONS, field);
  }
  assert.ok(STEPS.some(({ skipped, grad_norm }) => skipped && grad_norm === null));
  assert.equal(texts["eval/sample_1"].length, EVALUATIONS.length);
  assert.match(texts["eval/sample_1"][0][1], /^\*\*prompt\*\*\n\n {4}/);
});

Deno.test("event files: a file is cut before what was damaged, and one without values goes", () => {
  using folder = new TemporaryFolder();
  const path = folder.file("tensorboard");
  writeSteps(path, 0, 5, 1_800_000_000);
  const [[name, whole]] = filesIn(path);
  const ends = [...eventRecords(whole)].map(({ end }) => end);
  assert.equal(ends.at(-1), whole.length);
  const damage: [Uint8Array, number][] = [
    [whole.slice(0, whole.length - 1), ends.at(-2)!], // cut short
    [Uint8Array.from([...whole, 1, 2, 3]), whole.length], // begun
    // A byte of data, of a length and of a checksum.
    ...[ends[2] + 20, ends[2] + 3, ends[3] - 1].map((at): [Uint8Array, number] => {
      const bytes = whole.slice();
      bytes[at] ^= 0x40;
      return [bytes, ends[2]];
    }),
  ];
  for (const [bytes, kept] of damage) {
    for (const [other] of filesIn(path)) Deno.removeSync(join(path, other));
    Deno.writeFileSync(join(path, name), bytes);
    new EventFile(path, 5)[Symbol.dispose]();
    assert.equal(Deno.statSync(join(path, name)).size, kept);
    assert.equal(filesIn(path).length, 2);
  }
  // What was resumed, and never got to a step, leaves no file.
  new EventFile(path, 5)[Symbol.dispose]();
  assert.equal(filesIn(path).length, 2);
  new EventFile(path, 0)[Symbol.dispose]();
  assert.equal(filesIn(path).length, 1);
});
