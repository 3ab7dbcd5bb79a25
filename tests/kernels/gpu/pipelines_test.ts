/** When pipelines are built, on a device that only notes it. */
import assert from "node:assert/strict";
import { Pipelines } from "../../../kernels/gpu/pipelines.ts";
import type { Compilers } from "../../../kernels/gpu/compilers.ts";
import { openGpu } from "../../../kernels/gpu/gpu.ts";
import { type Program, programFamily } from "../../../kernels/gpu/program.ts";
import { gpuTest } from "../harness.ts";

const sized = programFamily("pipelines_test", ({ lines }: { lines: number }) => ({
  bindings: [],
  uniforms: {},
  body: `${"// long\n".repeat(lines)}@compute @workgroup_size(1) fn main() {}`,
}));
const MANY = [12, 1, 2, 3, 4, 5, 6, 7, 8].map((lines) => sized({ lines }));
const PROGRAMS = [2, 9, 4].map((lines) => sized({ lines }));

/** Pipelines whose device calls `built` with the label of each that is asked for, and gives what that gives. */
function pipelinesOf(
  compilesInParallel: boolean,
  built: (label: string) => unknown,
  compilers?: Compilers,
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
  const provider = { dialect: { enable: {} }, compilesInParallel };
  return new Pipelines(device as unknown as GPUDevice, provider, compilers);
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

Deno.test("programs on tensor cores are built before others of their length", async () => {
  const matrices = programFamily("pipelines_matrices", () => ({
    ...sized({ lines: 4 }),
    extensions: ["subgroup_matrix"],
  }))({});
  const asked: string[] = [];
  await pipelinesOf(true, (label) => (asked.push(label), { label })).compile([
    ...PROGRAMS,
    matrices,
  ]);
  assert.deepEqual(asked, keys(matrices, PROGRAMS[1], PROGRAMS[2], PROGRAMS[0]));
});

Deno.test("pipelines are built one after the other, with turns for others between them", async () => {
  const told: string[] = [];
  const pipelines = pipelinesOf(false, (label) => (told.push(label), { label }));
  const compiled = pipelines.compile(PROGRAMS, async () => void await told.push("turn"));
  assert.deepEqual(told, [PROGRAMS[1].key, "turn"], "the first at once");
  assert.equal(await compiled, 3);
  const [second, first, third] = [PROGRAMS[2], PROGRAMS[1], PROGRAMS[0]].map(({ key }) => key);
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

/** Takes a thread's time, as a driver that compiles does. */
function busy(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

/** Compilers that note what they are asked, in which order they end, and that they are given back. */
function notingCompilers(count: number, told: string[], failing = 0): Compilers {
  let opened = 0;
  return {
    count,
    atOnce: 2,
    open: () => {
      const number = opened++;
      if (number < failing) return Promise.reject(new Error("no memory"));
      return Promise.resolve({
        compile: async ({ label }) => {
          await new Promise((resolve) => setTimeout(resolve, 1));
          told.push(label);
        },
        [Symbol.dispose]: () => void told.push("given back"),
      });
    },
  };
}

for (const parallel of [false, true]) {
  const where = parallel ? "aside" : "here";
  /** Pipelines of a driver that has to compile the first program that it is asked for, and has the others. */
  const slowAtFirst = (built: string[], compilers: Compilers, milliseconds = 400) => {
    let isFirst = true;
    return pipelinesOf(parallel, (label) => {
      built.push(label);
      const wait = isFirst ? milliseconds : 0;
      isFirst = false;
      if (!parallel) busy(wait);
      return parallel ? new Promise((resolve) => setTimeout(resolve, wait)) : { label };
    }, compilers);
  };

  Deno.test(`where the driver has to compile, other devices do, and pipelines are built ${where} after it`, async () => {
    const built: string[] = [], told: string[] = [];
    const pipelines = slowAtFirst(built, notingCompilers(2, told, 1));
    assert.equal(await pipelines.compile(MANY), MANY.length);
    const [middle] = keys(...MANY.toSorted((a, b) => b.body.length - a.body.length).slice(4));
    assert.equal(built[0], middle, "the one that tells whether the driver compiles");
    assert.deepEqual(built.toSorted(), keys(...MANY).toSorted(), "each once");
    const others = keys(...MANY).filter((key) => key !== middle);
    assert.deepEqual(told.slice(0, -1).toSorted(), others.toSorted());
    assert.equal(told.at(-1), "given back");
  });

  Deno.test(`where no other device is to be had, all is compiled ${where}`, async () => {
    const built: string[] = [], told: string[] = [];
    assert.equal(await slowAtFirst(built, notingCompilers(2, told, 2)).compile(MANY), MANY.length);
    assert.deepEqual(built.toSorted(), keys(...MANY).toSorted());
    assert.deepEqual(told, []);
  });

  Deno.test(`a driver that has the programs, or few of them, take no other devices (${where})`, async () => {
    const told: string[] = [];
    await slowAtFirst([], notingCompilers(2, told), 0).compile(MANY);
    await slowAtFirst([], notingCompilers(2, told)).compile(MANY.slice(0, 7));
    assert.deepEqual(told, []);
  });
}

gpuTest("programs that other devices compile run, and a wrong one is told", async () => {
  const gpu = await openGpu({ compilers: 2 });
  let isFirst = true;
  const slow =
    (create: GPUDevice["createComputePipeline"]): GPUDevice["createComputePipeline"] =>
    (descriptor) => {
      if (isFirst) busy(80);
      isFirst = false;
      return create.call(gpu.device, descriptor);
    };
  gpu.device.createComputePipeline = slow(gpu.device.createComputePipeline);
  const added = programFamily("pipelines_added", ({ n }: { n: number }) => ({
    bindings: [{ name: "x", dtype: "f32", access: "write" }],
    uniforms: {},
    body: `@compute @workgroup_size(1) fn main() { store_x(0u, load_x(0u) + ${n}.0); }${
      " ".repeat(n)
    }`,
  }));
  const x = gpu.memory.tensor("workspace", "x", "f32", [4]), numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const work = () => numbers.forEach((n) => gpu.run(added({ n }), [x], {}, [1]));
  assert.equal(await gpu.precompile(work), 9);
  work();
  assert.deepEqual([...await gpu.readF32(x)], Array(4).fill(45));
  isFirst = true;
  const wrong = programFamily("pipelines_wrong", ({ n }: { n: number }) => ({
    bindings: [{ name: "x", dtype: "f32", access: "write" }],
    uniforms: {},
    body: `@compute @workgroup_size(1) fn main() { store_x(0u, missing_${n}); }`,
  }));
  const failing = gpu.precompile(() =>
    numbers.forEach((n) => gpu.run(n === 9 ? wrong({ n }) : added({ n: 10 + n }), [x], {}, [1]))
  );
  await assert.rejects(failing, /WGSL error in program "pipelines_wrong\(n=9\)"[^]*missing_9/);
  gpu.close();
});

Deno.test("a thread that is busy while a pipeline is built does not take the driver for a slow one", async () => {
  const told: string[] = [];
  const pipelines = pipelinesOf(
    true,
    // As Dawn tells: in a later turn of the event loop than the one in which it is built.
    (label) =>
      new Promise((resolve) => setTimeout(() => setTimeout(() => resolve({ label }), 1), 1)),
    notingCompilers(2, told),
  );
  const compiled = pipelines.compile(MANY);
  busy(120);
  assert.equal(await compiled, MANY.length);
  assert.deepEqual(told, []);
});
