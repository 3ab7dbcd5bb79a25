import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { openGpu } from "../../../kernels/gpu/gpu.ts";
import { clear, copy } from "../../../kernels/ops/elements/bytes.ts";
import { Memory, memoryLines } from "../../../kernels/gpu/memory.ts";
import { profileLines } from "../../../kernels/gpu/profiler.ts";
import { programFamily } from "../../../kernels/gpu/program.ts";
import { splitRows, Tensor } from "../../../kernels/gpu/tensor.ts";
import { download, gpuTest, upload } from "../harness.ts";

const double = programFamily("double", () => ({
  bindings: [{ name: "x", dtype: "f32", access: "write" }],
  uniforms: { vectors: "u32", factor: "f32" },
  body: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < u.vectors) { store_x(id.x, load_x(id.x) * u.factor); }
}`,
}));

gpuTest(
  "launches run in order, each with its own uniforms, over several submissions",
  async (gpu) => {
    const x = upload(gpu, [1, 2, 3, 4], "f32", [4]);
    // More launches than one submission takes.
    for (let i = 0; i < 1000; i++) {
      gpu.run(
        double({}),
        [x],
        { vectors: 1, factor: i % 2 ? 0.5 : 2 },
        [1],
      );
    }
    gpu.run(double({}), [x], { vectors: 1, factor: 3 }, [1]);
    assert.deepEqual([...await download(gpu, x)], [3, 6, 9, 12]);
  },
);

gpuTest("a read longer than the staging buffer comes back whole", async (gpu) => {
  const values = Float64Array.from({ length: 600_000 }, (_, i) => i);
  const read = await download(gpu, upload(gpu, values, "f32", [values.length]));
  assert.equal(read.findIndex((v, i) => v !== i), -1);
});

gpuTest("any size is read, new or into memory that is there", async (gpu) => {
  const MIB = 1 << 18, most = 17 * MIB + 4;
  const values = Uint32Array.from({ length: most }, (_, i) => Math.imul(i, 2654435761));
  const tensor = gpu.memory.tensor("workspace", "values", "u32", [most]);
  gpu.write(tensor, values);
  const target = new Uint8Array(4 * most + 16).fill(7);
  for (const size of [4, MIB, MIB + 4, 4 * MIB + 4, 16 * MIB, most]) {
    const part = tensor.view([size]), expected = new Uint8Array(values.buffer, 0, 4 * size);
    assert.ok(Buffer.from(await gpu.read(part)).equals(expected), `${size} values`);
    await gpu.readInto(part, target);
    assert.ok(Buffer.from(target.buffer, 0, 4 * size).equals(expected), `${size} values again`);
    assert.equal(target[4 * most], 7);
  }
  gpu.free(tensor);
});

gpuTest("what is recorded during a reading follows it, in order", async (gpu) => {
  const x = upload(gpu, [1, 2, 3, 4], "f32", [4]);
  const times = (factor: number) => gpu.run(double({}), [x], { vectors: 1, factor }, [1]);
  times(3);
  const read = await gpu.readF32(x, () => {
    times(3);
    gpu.write(x, Float32Array.of(5, 6, 7, 8));
    times(2);
    // More than what is kept back.
    for (let i = 0; i < 300; i++) gpu.write(x, Float32Array.of(i, 6, 7, 8));
    for (let i = 0; i < 1000; i++) times(i % 2 ? 0.5 : 2);
    times(10);
  });
  assert.deepEqual([...read], [3, 6, 9, 12]);
  assert.deepEqual([...await gpu.readF32(x)], [2990, 60, 70, 80]);
});

gpuTest("only one reading waits, and nothing is kept back after one that failed", async (gpu) => {
  const x = upload(gpu, [1, 2, 3, 4], "f32", [4]);
  const fail = () => {
    gpu.run(double({}), [x], { vectors: 1, factor: 2 }, [1]);
    gpu.write(x, Float32Array.of(7, 8));
    throw new Error("meanwhile");
  };
  await assert.rejects(gpu.read(x, fail), /meanwhile/);
  assert.deepEqual([...await gpu.readF32(x)], [7, 8, 6, 8]);
  const reading = gpu.read(x);
  await assert.rejects(gpu.read(x), /can't be read while another reading waits/);
  await reading;
});

gpuTest("a write of a size that is no multiple of four bytes keeps its last bytes", async (gpu) => {
  const x = gpu.memory.tensor("workspace", "halves", "f16", [3]);
  gpu.write(x, Uint16Array.of(0x3c00, 0x4000, 0x4200));
  assert.deepEqual([...await download(gpu, x)], [1, 2, 3]);
  gpu.free(x);
});

gpuTest("copies and zeros of any size cover their tensor and nothing else", async () => {
  // The second device binds less than the larger tensors hold.
  for (const gpu of [await openGpu(), await openGpu({ maxBinding: 4096 })]) {
    for (const [dtype, size] of [["f32", 1], ["f16", 7], ["u32", 257], ["f32", 70_001]] as const) {
      const [x, y] = ["x", "y"].map((name) =>
        gpu.memory.tensor("parameter", name, dtype, [size + 64])
      );
      const bytes = y.bytes;
      gpu.write(x, new Uint8Array(x.bytes).fill(1));
      gpu.write(y, new Uint8Array(bytes).fill(2));
      const part = x.view([size]);
      copy(gpu, part, y);
      const copied = new Uint8Array(await gpu.read(y));
      assert.equal(copied.findIndex((v, i) => v !== (i < part.bytes ? 1 : 2)), -1);
      clear(gpu, part);
      const cleared = new Uint8Array(await gpu.read(x));
      assert.equal(cleared.findIndex((v, i) => v !== (i < part.bytes ? 0 : 1)), -1);
      for (const tensor of [x, y]) gpu.free(tensor);
    }
    gpu.close();
  }
});

gpuTest("a WGSL error names the program and shows the offending line", async () => {
  const gpu = await openGpu();
  const wrong = programFamily("broken", () => ({
    bindings: [{ name: "x", dtype: "f32", access: "write" }],
    uniforms: {},
    body: "@compute @workgroup_size(1)\nfn main() {\n  let y = undeclared_name + 1.0;\n}",
  }));
  const x = gpu.memory.tensor("workspace", "x", "f32", [4]);
  gpu.run(wrong({}), [x], {}, [1]);
  await assert.rejects(gpu.read(x), (error: Error) => {
    assert.equal(error.name, "UserError");
    assert.match(error.message, /program "broken"/);
    assert.match(error.message, /let y = undeclared_name \+ 1\.0/);
    return true;
  });
  gpu.close();
});

gpuTest(
  "a launch with a missing uniform, or a tensor of another dtype, is refused",
  async (gpu) => {
    const x = upload(gpu, [1, 2, 3, 4], "f32", [4]), ids = upload(gpu, [1, 2, 3, 4], "u32", [4]);
    assert.throws(() => gpu.run(double({}), [x], { vectors: 1 }, [1]), /uniform factor is missing/);
    const uniforms = { vectors: 1, factor: 1 };
    assert.throws(() => gpu.run(double({}), [ids], uniforms, [1]), /x is f32, input is u32/);
    assert.throws(() => gpu.run(double({}), [], uniforms, [1]), /1 tensors expected/);
    await gpu.check();
  },
);

gpuTest("precompiling builds each program once and does nothing else", async (gpu) => {
  const scaled = programFamily("precompiled", ({ factor }: { factor: number }) => ({
    bindings: [{ name: "x", dtype: "f32", access: "write" }],
    uniforms: { unused: "u32" },
    body: `@compute @workgroup_size(1)
fn main() { store_x(u.unused, load_x(u.unused) * ${factor}.0); }`,
  }));
  const x = upload(gpu, [1, 2, 3, 4], "f32", [4]), y = upload(gpu, [5, 6, 7, 8], "f32", [4]);
  const work = () => {
    gpu.run(scaled({ factor: 2 }), [x], { unused: 0 }, [1]);
    gpu.run(scaled({ factor: 3 }), [x], { unused: 0 }, [1]);
    gpu.run(scaled({ factor: 2 }), [x], { unused: 0 }, [1]);
    copy(gpu, y, x);
    gpu.write(y, Float32Array.of(9, 9, 9, 9));
    clear(gpu, x);
  };
  assert.equal(await gpu.precompile(work), 4, "two scalings, a copy and a clear");
  assert.equal(await gpu.precompile(work), 0);
  assert.deepEqual([...await download(gpu, x)], [1, 2, 3, 4]);
  assert.deepEqual([...await download(gpu, y)], [5, 6, 7, 8]);
  gpu.run(scaled({ factor: 3 }), [x], { unused: 0 }, [1]);
  assert.deepEqual([...await download(gpu, x)], [3, 6, 9, 12]);
});

gpuTest("precompiling reports WGSL errors and refuses to read", async () => {
  const gpu = await openGpu();
  const wrong = programFamily("precompiled_wrong", () => ({
    bindings: [{ name: "x", dtype: "f32", access: "write" }],
    uniforms: {},
    body: "@compute @workgroup_size(1)\nfn main() {\n  store_x(0u, missing);\n}",
  }));
  const x = gpu.memory.tensor("workspace", "x", "f32", [4]);
  let reading: Promise<unknown> | undefined;
  await gpu.precompile(() => {
    reading = gpu.read(x);
    reading.catch(() => {});
  });
  await assert.rejects(reading!, /x can't be read while programs are precompiled/);
  await assert.rejects(gpu.precompile(() => gpu.run(wrong({}), [x], {}, [1])), (error: Error) => {
    assert.equal(error.name, "UserError");
    assert.match(error.message, /program "precompiled_wrong"[^]*store_x\(0u, missing\)/);
    return true;
  });
  gpu.close();
});

gpuTest("the profiler counts every launch with its time and cost", async () => {
  const gpu = await openGpu({ profile: true });
  if (gpu.profiler === undefined) return gpu.close();
  const x = gpu.memory.tensor("workspace", "x", "f32", [4]);
  const uniforms = { vectors: 1, factor: 2 };
  for (let i = 0; i < 900; i++) gpu.run(double({}), [x], uniforms, [1], { flops: 4, bytes: 32 });
  await gpu.finish();
  const profile = await gpu.profiler.take();
  const [row] = profile.rows;
  assert.deepEqual([row.key, row.launches, row.flops, row.bytes], ["double", 900, 3600, 28800]);
  assert.ok(row.seconds >= 0);
  assert.match(profileLines(profile)[0], /900 launches.* double$/);
  gpu.close();
});

Deno.test("memory is counted by category, live and peak, with and without a device", () => {
  const memory = new Memory();
  memory.tensor("parameter", "w", "f16", [3, 4]); // 24 bytes, stored in 256
  memory.arena("gradient", "g", [
    { name: "a", dtype: "f32", shape: [100] },
    { name: "b", dtype: "f32", shape: [1] },
  ]);
  assert.equal(memory.live.parameter, 256);
  assert.equal(memory.live.gradient, 512 + 256);
  assert.equal(memory.peakTotal, 1024);
  assert.match(memoryLines(memory.peak, memory.peakTotal).at(-1)!, /total +0\.0 MB/);
});

gpuTest("freeing gives bytes back and keeps the peak", async (gpu) => {
  const before = gpu.memory.live.activation;
  const x = gpu.memory.tensor("activation", "x", "f32", [1 << 16]);
  assert.equal(gpu.memory.live.activation - before, 1 << 18);
  gpu.free(x);
  assert.equal(gpu.memory.live.activation, before);
  assert.ok(gpu.memory.peak.activation >= 1 << 18);
  await gpu.check();
});

gpuTest("a closed GPU has no buffers left, and says that it was closed", async () => {
  const gpu = await openGpu(), { memory } = gpu;
  const x = memory.tensor("activation", "x", "f32", [4]);
  await gpu.read(x);
  gpu.close();
  assert.ok(Object.values(memory.live).every((bytes) => bytes === 0));
  assert.ok(memory.peak.activation >= x.bytes);
  await assert.rejects(gpu.finish(), /the GPU is used after it was closed/);
});

Deno.test("an arena too large for one buffer goes into several, a tensor too large is refused", () => {
  const memory = new Memory(undefined, { maxBufferSize: 1024, maxBinding: 1024 });
  const specs = [1, 2, 3, 4, 5].map((i) => ({
    name: `t${i}`,
    dtype: "f32" as const,
    shape: [100],
  }));
  assert.deepEqual(memory.arena("parameter", "five", specs).map((t) => t.offset), [
    0,
    512,
    0,
    512,
    0,
  ]);
  assert.throws(() => memory.tensor("parameter", "big", "f32", [1000]), {
    name: "UserError",
    message: /"big" needs 0 MB in one buffer/,
  });
});

Deno.test("splitRows covers every row once, in pieces that fit and start where bindings may", () => {
  for (
    const [rows, rowBytes, limit] of [[7, 16, 1e6], [1000, 112, 4096], [32000, 16384, 2 ** 27]]
  ) {
    const parts = splitRows(rows, rowBytes, limit);
    assert.equal(parts.reduce((sum, { count }) => sum + count, 0), rows);
    let next = 0;
    for (const { start, count } of parts) {
      assert.equal(start, next);
      assert.equal((start * rowBytes) % 256, 0);
      assert.equal(start % 4, 0);
      assert.ok(count * rowBytes <= limit);
      next = start + count;
    }
  }
  assert.throws(() => splitRows(10, 4096, 1024), /does not fit a binding/);
});

Deno.test("a row range that no binding can start at is refused", () => {
  const x = new Tensor("x", "f32", [10, 4], undefined);
  assert.equal(x.rows(16, 2).offset, 256);
  assert.equal(x.rows(16, 2), x.rows(16, 2));
  assert.throws(() => x.rows(1, 2), /row 1 does not start at a multiple of 256/);
});

Deno.test("a family's name is its own, and its key has the entries of the record", () => {
  const source = { bindings: [], uniforms: {}, body: "" };
  const family = programFamily("entries", (_: { x: string; wide: boolean }) => source);
  const program = family({ x: "f16", wide: true });
  assert.equal(program.key, "entries(x=f16,wide=true)");
  assert.equal(family({ x: "f16", wide: true }), program);
  assert.equal(family({ wide: true, x: "f16" }), program);
  assert.notEqual(family({ x: "f16", wide: false }), program);
  assert.throws(() => programFamily("entries", () => source), /two families .* called "entries"/);
});
