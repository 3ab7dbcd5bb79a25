/** When pipelines are built, on a device that only notes it. */
import assert from "node:assert/strict";
import { Pipelines } from "../../../kernels/gpu/pipelines.ts";
import { type Program, programFamily } from "../../../kernels/gpu/program.ts";

const sized = programFamily("pipelines_test", ({ lines }: { lines: number }) => ({
  bindings: [],
  uniforms: {},
  body: `${"// long\n".repeat(lines)}@compute @workgroup_size(1) fn main() {}`,
}));
const PROGRAMS = [2, 9, 4].map((lines) => sized({ lines }));

/** Pipelines whose device calls `built` with the label of each that is asked for, and gives what that gives. */
function pipelinesOf(
  compilesInParallel: boolean,
  built: (label: string) => unknown,
): Pipelines {
  const device = {
    pushErrorScope: () => {},
    popErrorScope: () => Promise.resolve(null),
    createShaderModule: () => ({}),
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createComputePipeline: ({ label }: { label: string }) => built(label),
    createComputePipelineAsync: ({ label }: { label: string }) => Promise.resolve(built(label)),
  };
  return new Pipelines(device as unknown as GPUDevice, {
    dialect: { enable: {} },
    compilesInParallel,
  });
}

const keys = (...programs: Program[]) => programs.map(({ key }) => key);

Deno.test("pipelines are built side by side, the longest programs first, and nobody else waits", async () => {
  const asked: string[] = [], end = Promise.withResolvers<void>();
  const pipelines = pipelinesOf(true, async (label) => {
    asked.push(label);
    await end.promise;
    return { label };
  });
  let done = false;
  const compiled = pipelines.compile(PROGRAMS).finally(() => done = true);
  assert.deepEqual(asked, keys(PROGRAMS[1], PROGRAMS[2], PROGRAMS[0]));
  await pipelines.check();
  assert.equal(done, false);
  assert.equal(
    await pipelines.compile(PROGRAMS),
    0,
    "those that are being built are not built again",
  );
  end.resolve();
  assert.equal(await compiled, 3);
  assert.deepEqual(asked.length, 3);
});

Deno.test("pipelines are built one after the other, with turns for others between them", async () => {
  const told: string[] = [];
  const pipelines = pipelinesOf(false, (label) => (told.push(label), { label }));
  const compiled = pipelines.compile(PROGRAMS, async () => void await told.push("turn"));
  assert.deepEqual(told, [PROGRAMS[0].key, "turn"], "the first at once");
  assert.equal(await compiled, 3);
  const [first, second, third] = keys(...PROGRAMS);
  assert.deepEqual(told, [first, "turn", second, "turn", third]);

  const silent: string[] = [];
  const together = pipelinesOf(false, (label) => (silent.push(label), { label }));
  const all = together.compile(PROGRAMS);
  assert.equal(silent.length, 3, "without turns, all before it returns");
  await all;
});

Deno.test("what is awaited between two pipelines can end the building", async () => {
  const told: string[] = [];
  const pipelines = pipelinesOf(false, (label) => (told.push(label), { label }));
  const closed = () => Promise.reject(new Error("closed"));
  await assert.rejects(pipelines.compile(PROGRAMS, closed), /closed/);
  assert.equal(told.length, 1);
});
