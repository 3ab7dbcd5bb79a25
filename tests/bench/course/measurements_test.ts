/** The folder of measurements: what is kept, what is measured again, what is refused. */
import assert from "node:assert/strict";
import { lorikeetProgram, Measurements } from "../../../bench/course/measurements.ts";
import { runProcess } from "../../../bench/course/processes.ts";
import { UserError } from "../../../kernels/errors.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { Variables } from "../../variables.ts";

const GPU = { gpu: "G", provider: "deno", reason: "built in", software: false };

/** A program that notes its calls and prints what its second argument says. */
function counting(folder: TemporaryFolder): { measurements: Measurements; calls: () => number } {
  const log = folder.file("calls", "");
  const script = folder.file("program.sh", `echo call >>'${log}'; echo "$1"; exit "\${2:-0}"`);
  return {
    measurements: new Measurements(folder.file("results"), GPU, {
      run: (words) => runProcess("sh", words),
      args: [script],
      sources: "abc",
    }),
    calls: () => Deno.readTextFileSync(log).split("\n").length - 1,
  };
}

Deno.test("measurements: the same command is measured once, another one again", async () => {
  using folder = new TemporaryFolder();
  const { measurements, calls } = counting(folder);
  const first = await measurements.measure("a", ['{"x": 1}']);
  assert.deepEqual([first.result, first.refused], [{ x: 1 }, undefined]);
  const again = await measurements.measure("a", ['{"x": 1}']);
  assert.deepEqual([again.result, again.measured_at], [first.result, first.measured_at]);
  assert.equal(calls(), 1);
  assert.deepEqual((await measurements.measure("a", ['{"x": 2}'])).result, { x: 2 });
  assert.equal(calls(), 2);
  const names = [...Deno.readDirSync(measurements.folder)].map(({ name }) => name);
  assert.deepEqual(names, ["a.json"], "nothing temporary is left");
});

Deno.test("measurements: a damaged file and that of other sources are measured again", async () => {
  using folder = new TemporaryFolder();
  const { measurements, calls } = counting(folder);
  await measurements.measure("a", ['{"x": 1}']);
  const path = `${measurements.folder}/a.json`, whole = Deno.readTextFileSync(path);
  const damaged = [
    ...[whole.slice(0, whole.length / 2), "", "[]", whole.replace('"result"', '"rseult"')],
    whole.replace(/"sources": "[^"]+"/, '"sources": "abd"'),
  ];
  for (const [i, text] of damaged.entries()) {
    Deno.writeTextFileSync(path, text);
    assert.deepEqual((await measurements.measure("a", ['{"x": 1}'])).result, { x: 1 });
    assert.equal(calls(), 2 + i, text);
  }
});

Deno.test("measurements: those of a device with other limits are others", () => {
  const sources = (LORIKEET_LIMITS: string) => {
    using _ = new Variables({ LORIKEET_LIMITS });
    return lorikeetProgram().sources;
  };
  assert.equal(sources("default"), `${sources("")} LORIKEET_LIMITS=default`);
});

Deno.test("measurements: a refusal for memory is kept, any other failure is not", async () => {
  using folder = new TemporaryFolder();
  const { measurements, calls } = counting(folder);
  const needed = { parameter: 8, activation: 0, gradient: 0, optimizer: 0, workspace: 1 };
  const why = { by: "driver", needed, total: 9, available: 5 };
  const command = [JSON.stringify({ refused: why }), "1"];
  assert.deepEqual((await measurements.measure("a", command)).refused, why);
  assert.deepEqual((await measurements.measure("a", command)).refused, why);
  assert.equal(calls(), 1);
  for (const [text, code] of [["{}", "1"], ["no JSON", "0"], ['{"refused": {}}', "1"]]) {
    await assert.rejects(
      measurements.measure("b", [text, code]),
      (error) => error instanceof UserError && error.message.includes(`exit code ${code}`),
    );
  }
  assert.deepEqual([...Deno.readDirSync(measurements.folder)].map(({ name }) => name), ["a.json"]);
});

Deno.test("measurements: every one names its GPU, refusals too, and another's is refused", async () => {
  using folder = new TemporaryFolder();
  const { measurements, calls } = counting(folder);
  const needed = { parameter: 8, activation: 0, gradient: 0, optimizer: 0, workspace: 1 };
  const refusal = [JSON.stringify({ refused: { by: "plan", needed, total: 9 } }), "1"];
  const all = { fits: ['{"x": 1}'], refused: refusal };
  for (const [name, command] of Object.entries(all)) {
    assert.equal((await measurements.measure(name, command)).gpu, "G");
  }
  const { program } = measurements;
  const moved = new Measurements(measurements.folder, { ...GPU, gpu: "H" }, program);
  for (const [name, command] of Object.entries(all)) {
    await assert.rejects(moved.measure(name, command), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /^folder .* of G, and .* is H; expected another --folder$/);
      return true;
    });
  }
  // What would be measured again in any case is of no GPU's concern.
  assert.equal((await moved.measure("fits", ['{"x": 2}'])).gpu, "H");
  assert.equal(calls(), 3);
});
