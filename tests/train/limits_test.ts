/**
 * A device with no more than WebGPU guarantees trains and answers as one with all that its adapter has, on the
 * programs for software drivers and on those for GPUs.
 */
import assert from "node:assert/strict";
import { type Gpu, type GpuOptions, openGpu } from "../../kernels/gpu/gpu.ts";
import { limitsName } from "../../kernels/gpu/limits.ts";
import { LINEAR_MODULES } from "../../model/families/linear_modules.ts";
import { open } from "../../model/session.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import { workgroupBytes } from "../kernels/workgroup_bytes.ts";
import { Variables } from "../variables.ts";
import { openTrainer, randomSamples, randomSubject, SMALL_CONFIG } from "./runs.ts";
import { targetsAfter } from "../../model/text/targets.ts";

/** The most that a program may take: https://www.w3.org/TR/webgpu/#limits. */
const GUARANTEED = {
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16 << 10,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxStorageBufferBindingSize: 128 << 20,
  maxBufferSize: 256 << 20,
};

/** All layers are adapted: three adapters of a group are as many as a program is bound to. */
const SUBJECT = randomSubject({ ...SMALL_CONFIG, num_hidden_layers: 1 }, {
  rank: 4,
  alpha: 8,
  targets: Object.keys(LINEAR_MODULES) as (keyof typeof LINEAR_MODULES)[],
});

gpuTest("default limits: a device has no more than WebGPU guarantees", async () => {
  const gpu = await openGpu({ limits: "default", profile: true });
  try {
    for (const [name, most] of Object.entries(GUARANTEED)) {
      assert.equal(gpu.device.limits[name as keyof typeof GUARANTEED], most, name);
    }
    assert.deepEqual([...gpu.extensions], []);
    assert.equal(gpu.profiler, undefined);
    assert.equal(gpu.maxBindings, 8);
  } finally {
    gpu.close();
  }
});

/** Devices by their options, each opened once: their programs are compiled once. */
const devices = new Map<string, Gpu>();
globalThis.addEventListener("unload", () => devices.forEach((gpu) => gpu.close()));

async function deviceOf(options: GpuOptions): Promise<Gpu> {
  const key = JSON.stringify(options), opened = devices.get(key);
  if (opened !== undefined) return opened;
  const gpu = await openGpu(options);
  if (options.limits === "default") checkPrograms(gpu);
  devices.set(key, gpu);
  return gpu;
}

/** Has each program that a device compiles from here on checked for its workgroup memory. */
function checkPrograms({ device }: Gpu): void {
  const { createShaderModule } = device;
  device.createShaderModule = (descriptor) => {
    const { code, label } = descriptor, bytes = workgroupBytes(code);
    assert.ok(bytes <= GUARANTEED.maxComputeWorkgroupStorageSize, `${label}: ${bytes} bytes`);
    return createShaderModule.call(device, descriptor);
  };
}

Deno.test("workgroup memory of a source: arrays, vectors, atomics, aliases and structures", () => {
  const source = `
alias Word = vec4<f16>;
struct Pair { x: vec2<f16>, y: vec2<f16> }
var<workgroup> tile: array<array<Word, 3>, 5>;
var<workgroup> pairs: array<Pair, 4>;
var<workgroup> counts: array<atomic<u32>, 10>;
  var<workgroup> best: vec2<f32>;
var<private> own: array<f32, 9>;`;
  assert.equal(workgroupBytes(source), 128 + 32 + 48 + 16);
});

/** A device's losses of three steps on documents that share rows, and the most buffers of a launch. */
async function train(options: GpuOptions, precision: "fp32" | "mixed") {
  const [base, other] = randomSamples(SMALL_CONFIG, [30, 9]);
  const sharing = [1, 2].map((last) => ({
    ids: Uint32Array.from([...base.ids.subarray(0, 20), last, last]),
    targets: targetsAfter(20, { length: 22 }),
    truncated: false,
  }));
  const window = [[...sharing], [other]];
  const gpu = await deviceOf(options);
  const settings = { precision, packing: true, gradient_accumulation_steps: 2 } as const;
  const trainer = openTrainer(gpu, SUBJECT, [window], settings);
  const losses: number[] = [];
  const uses = await gpu.trace(async () => {
    for (let step = 0; step < 3; step++) {
      const result = await trainer.step(gpu, window, { learningRate: 1e-2, firstMicroBatch: 0 });
      losses.push(result.loss);
    }
  });
  const most = Math.max(...uses.map(({ reads, writes }) => reads.length + writes.length));
  return { losses, most };
}

/** Ids of an answer on a device. */
async function answer(gpu: GpuOptions): Promise<number[]> {
  await using lorikeet = await open({ model: "builtin", precision: "fp32", context: 64, gpu });
  if (gpu.limits === "default") checkPrograms(lorikeet.gpu);
  const ids: number[] = [];
  for await (const { id } of lorikeet.generate("Rio is a lorikeet.", { maxTokens: 6 })) {
    if (id !== undefined) ids.push(id);
  }
  return ids;
}

gpuTest("default limits: training is the same, by programs for software and for GPUs", async () => {
  for (const [precision, kinds] of [["fp32", [true]], ["mixed", [true, false]]] as const) {
    const whole = await train({ software: true, limits: "adapter" }, precision);
    assert.ok(whole.losses[2] < whole.losses[0], `${whole.losses}`);
    for (const software of kinds) {
      const least = await train({ software, limits: "default" }, precision);
      const limits = precision === "fp32" ? { atol: 1e-5, rtol: 0 } : { atol: 0, rtol: 1e-3 };
      assertClose(least.losses, whole.losses, { ...limits, what: `${precision}, ${software}` });
      assert.ok(whole.most > 8 && least.most <= 8, `${whole.most} and ${least.most} buffers`);
    }
  }
});

gpuTest("default limits: answers are the same, by programs for software and for GPUs", async () => {
  const expected = await answer({ limits: "adapter" });
  assert.equal(expected.length, 6);
  for (const software of [true, false]) {
    assert.deepEqual(await answer({ limits: "default", software }), expected);
  }
});

Deno.test("LORIKEET_LIMITS names the limits, an option wins, and nothing else is taken", () => {
  using _default = new Variables({ LORIKEET_LIMITS: "default" });
  assert.deepEqual([limitsName(), limitsName("adapter")], ["default", "adapter"]);
  using _least = new Variables({ LORIKEET_LIMITS: "least" });
  assert.throws(() => limitsName(), {
    name: "UsageError",
    message: 'LORIKEET_LIMITS is "least"; expected adapter or default',
  });
  using _none = new Variables({ LORIKEET_LIMITS: undefined });
  assert.equal(limitsName(), "adapter");
});
