/** The doctor's checks on machines that are made up. */
import assert from "node:assert/strict";
import { canTrain, ok, problem, reportLines, warning } from "../../doctor/check.ts";
import { checkDeno, denoVersions } from "../../doctor/deno.ts";
import {
  checkAbilities,
  checkDawn,
  checkDrivers,
  checkGpu,
  checkLoader,
} from "../../doctor/graphics.ts";
import { wrongResult } from "../../doctor/known_answers.ts";
import { checkDeviceMemory, checkHostMemory } from "../../doctor/memory.ts";
import type { Probe } from "../../doctor/probe.ts";
import { type Probed, type ProbeOptions, probing } from "../../doctor/processes.ts";
import { checkSpeed, peakOf } from "../../doctor/speed.ts";
import { checkCaches, checkRunFolder } from "../../doctor/storage.ts";
import { ROOT } from "../../scripts/compile.ts";
import type { VulkanSurvey } from "../../scripts/launch/survey.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { gpuTest } from "../kernels/harness.ts";

const PROBE: Probe = {
  gpu: "NVIDIA H100 80GB HBM3",
  provider: "deno",
  reason: "built in",
  software: false,
  features: ["shader-f16"],
  limits: {
    maxBufferSize: 2 ** 32 - 2 ** 21,
    maxStorageBufferBindingSize: 2 ** 31,
    maxStorageBuffersPerShaderStage: 16,
    maxComputeWorkgroupStorageSize: 49152,
    maxComputeInvocationsPerWorkgroup: 1024,
  },
  f16: true,
  subgroup: { least: 32, most: 32 },
  subgroups: true,
  tensorCores: false,
};

const VULKAN: VulkanSurvey = {
  loader: "/usr/lib/libvulkan.so.1",
  drivers: {
    nvidia: ["/d/nvidia_icd.json"],
    software: ["/d/lvp_icd.json"],
    other: ["/d/radeon_icd.json"],
  },
  nvidia: false,
  devices: [],
  install: "apt-get install -y mesa-vulkan-drivers libvulkan1",
};

/** A probe of which only some drivers, by name, give a GPU. */
const givenBy = (gpus: Record<string, string>) => ({ env }: ProbeOptions): Promise<Probed> => {
  const file = env?.VK_DRIVER_FILES ?? "";
  assert.equal(env?.VK_ICD_FILENAMES, file, "old loaders are told, too");
  const gpu = Object.entries(gpus).find(([name]) => file.includes(name))?.[1];
  return Promise.resolve(
    gpu === undefined ? { failure: "no GPU adapter was found: …" } : { found: { ...PROBE, gpu } },
  );
};

Deno.test("doctor: the loader, or the command that installs it", () => {
  assert.equal(checkLoader(VULKAN).status, "ok");
  const { status, remedy = "" } = checkLoader({ ...VULKAN, loader: undefined });
  assert.equal(status, "problem");
  assert.ok(remedy.includes("`apt-get install -y mesa-vulkan-drivers libvulkan1`"));
  const unknown = checkLoader({ ...VULKAN, loader: undefined, install: undefined });
  assert.match(unknown.remedy ?? "", /^Install the Vulkan loader and your GPU's driver/);
});

Deno.test("doctor: each driver is tried by itself", async () => {
  const fine = await checkDrivers(VULKAN, givenBy({ lvp: "llvmpipe" }));
  assert.equal(fine.status, "ok");
  assert.equal(
    fine.found,
    "nvidia_icd.json: no GPU of its own; radeon_icd.json: no GPU of its own; lvp_icd.json: llvmpipe",
  );
  const none = await checkDrivers(VULKAN, givenBy({}));
  assert.equal(none.status, "problem");
  const crashed = await checkDrivers(
    VULKAN,
    () => Promise.resolve({ failure: "its driver crashed" }),
  );
  assert.match(crashed.found, /lvp_icd\.json: its driver crashed$/);
  const untried = await checkDrivers(
    { ...VULKAN, loader: undefined },
    () => assert.fail("no loader"),
  );
  assert.equal(untried.status, "problem");
});

Deno.test("doctor: a GPU whose driver gives nothing, or whose device is closed to the user", async () => {
  const container = await checkDrivers({ ...VULKAN, nvidia: true }, givenBy({ lvp: "llvmpipe" }));
  assert.equal(container.status, "warning");
  assert.match(container.remedy ?? "", /NVIDIA_DRIVER_CAPABILITIES=all/);
  assert.equal(
    (await checkDrivers({ ...VULKAN, nvidia: true }, givenBy({ nvidia: "H100" }))).status,
    "ok",
  );

  const devices = [{ path: "/dev/dri/renderD128", opens: false }];
  const closed = await checkDrivers({ ...VULKAN, devices }, givenBy({ lvp: "llvmpipe" }));
  assert.equal(closed.status, "warning");
  assert.match(closed.remedy ?? "", /open \/dev\/dri\/renderD128, .* group render/);
  assert.equal(
    (await checkDrivers({ ...VULKAN, devices }, givenBy({ radeon: "RX" }))).status,
    "ok",
  );
});

Deno.test("doctor: drivers that the user names are the only ones tried", async () => {
  const chosen = ["VK_ICD_FILENAMES", "/own/a.json:/own/b.json"] as const;
  const { status, found, remedy = "" } = await checkDrivers({ ...VULKAN, chosen }, givenBy({}));
  assert.equal(status, "problem");
  assert.equal(
    found,
    "a.json: no GPU of its own; b.json: no GPU of its own (named by VK_ICD_FILENAMES)",
  );
  assert.match(remedy, /^Unset VK_ICD_FILENAMES/);
});

Deno.test("doctor: the adapter of a run", () => {
  assert.equal(checkGpu({ found: PROBE }).found, "NVIDIA H100 80GB HBM3 (deno: built in)");
  assert.equal(checkGpu({ found: { ...PROBE, software: true } }).status, "warning");
  const failed = checkGpu({ failure: "the GPU X can't be opened: device lost" });
  assert.deepEqual([failed.status, failed.found], [
    "problem",
    "the GPU X can't be opened: device lost",
  ]);
  const full = checkGpu({ failure: "the GPU is out of memory: 64 MB" });
  assert.match(full.remedy ?? "", /nvidia-smi/);
  const known = checkGpu(
    { failure: "no GPU adapter was found: install" },
    problem("drivers", "", "."),
  );
  assert.equal(known.found, "no GPU adapter was found");
});

Deno.test("doctor: features and limits that are missing are warned of", () => {
  const statuses = (changes: Partial<Probe>, dawn?: string) =>
    checkAbilities({ ...PROBE, ...changes }, dawn).map(({ name, status }) => `${name}: ${status}`);
  const all = ["limits: ok", "f16: ok", "subgroups: ok"];
  assert.deepEqual(statuses({}), [...all, "tensor cores: warning"], "Dawn would have them");
  assert.deepEqual(statuses({}, "/dawn.node"), [...all, "tensor cores: ok"]);
  assert.deepEqual(statuses({ tensorCores: true }), [...all, "tensor cores: ok"]);
  assert.deepEqual(statuses({ gpu: "AMD Radeon" }), [...all, "tensor cores: ok"]);
  const least = { maxStorageBufferBindingSize: 2 ** 27, maxComputeWorkgroupStorageSize: 2 ** 14 };
  const poor = { f16: false, subgroups: false, limits: { ...PROBE.limits, ...least } };
  assert.deepEqual(statuses(poor, "/dawn.node").slice(0, 3), [
    "limits: warning",
    "f16: warning",
    "subgroups: warning",
  ]);
});

Deno.test("doctor: Dawn is opened where it was fetched, once", async () => {
  const never = () => assert.fail("it is not asked");
  assert.equal((await checkDawn(undefined, { found: PROBE }, never)).status, "ok");
  const dawn = { found: { ...PROBE, provider: "dawn", tensorCores: true } };
  const used = await checkDawn("/dawn.node", dawn, never);
  assert.equal(used.found, "NVIDIA H100 80GB HBM3, with tensor cores");
  const broken = await checkDawn("/dawn.node", { found: PROBE }, ({ gpu }) => {
    assert.equal(gpu, "dawn");
    return Promise.resolve({ failure: "Dawn can't be loaded" });
  });
  assert.equal(broken.status, "warning");
  assert.match(broken.found, /^\/dawn\.node .*: Dawn can't be loaded$/);
  assert.match(broken.remedy ?? "", /remove that file/);
  const failure = "Dawn found no GPU that it can use";
  const old = await checkDawn("/dawn.node", { found: PROBE }, () => Promise.resolve({ failure }));
  assert.match(old.remedy ?? "", /newer driver/);
});

Deno.test("doctor: rates stand beside the data sheet's of known GPUs", () => {
  assert.equal(peakOf("NVIDIA H200")?.bandwidth, 4800);
  assert.equal(peakOf("NVIDIA-H100-80GB-HBM3")?.tensor, 989);
  assert.equal(peakOf("NVIDIA H100 PCIe")?.tensor, 756);
  assert.equal(peakOf("NVIDIA A100-SXM4-80GB")?.bandwidth, 2039);
  assert.equal(peakOf("Tesla T4")?.f32, 8.1);
  assert.equal(peakOf("NVIDIA L40S")?.bandwidth, 864);
  assert.equal(peakOf("llvmpipe (LLVM 15.0.6, 256 bits)"), undefined);
  const fast = checkSpeed({ ...PROBE, tensorCores: true }, { copy: 2871, f32: 51, f16: 300 });
  assert.equal(fast.status, "ok");
  assert.equal(
    fast.found,
    "copy 2871 GB/s (86 % of the data sheet's), product f16 300 TFLOP/s (30 % of the data sheet's), " +
      "f32 51.0 TFLOP/s (76 % of the data sheet's)",
  );
  assert.equal(checkSpeed(PROBE, { copy: 1000, f32: 51, f16: 60 }).status, "warning");
  assert.equal(checkSpeed(PROBE, { copy: 2871, f32: 5, f16: 60 }).status, "warning");
  const own = checkSpeed({ ...PROBE, gpu: "own" }, { copy: 4, f32: 0.004, f16: 0.005 });
  assert.deepEqual([own.status, own.found], [
    "ok",
    "copy 4.00 GB/s, product f16 5.00 GFLOP/s, f32 4.00 GFLOP/s",
  ]);
  const wrong = checkSpeed(PROBE, { copy: 2871, f32: 51, f16: 60, wrong: "a copy" });
  assert.deepEqual([wrong.status, wrong.found], ["problem", "a copy came out wrong"]);
});

gpuTest("doctor: a GPU that computes wrong is found out", async (gpu) => {
  assert.equal(await wrongResult(gpu), undefined);
  for (
    const [name, size] of [["a copy", 1 << 16], ["a product of f32 matrices", 133 * 72]] as const
  ) {
    const broken = Object.create(gpu, {
      readF32: {
        value: async (...args: Parameters<typeof gpu.readF32>) => {
          const values = await gpu.readF32(...args);
          if (values.length === size) values[size - 1] += 1;
          return values;
        },
      },
    });
    for (const action of ["run", "write", "free", "memory", "maxBinding"] as const) {
      const value = gpu[action];
      Object.defineProperty(broken, action, {
        value: typeof value === "function" ? value.bind(gpu) : value,
      });
    }
    assert.equal(await wrongResult(broken), name);
  }
});

Deno.test("doctor: memory that others hold is warned of", () => {
  const gigabyte = 2 ** 30, nvidia = { name: "NVIDIA H100 80GB HBM3", driver: "580.159", used: 0 };
  const free = [{ ...nvidia, total: 80 * gigabyte, free: 79 * gigabyte }];
  assert.match(
    checkDeviceMemory(PROBE, free).found,
    /^80896 MB free of 81920 MB \(driver 580\.159\)$/,
  );
  const held = [{ ...nvidia, total: 80 * gigabyte, free: 10 * gigabyte }];
  assert.equal(checkDeviceMemory(PROBE, held).status, "warning");
  assert.match(checkDeviceMemory(PROBE, []).found, /^not known/);
  assert.equal(checkDeviceMemory({ ...PROBE, software: true }, held).status, "ok");
  assert.equal(checkHostMemory(8 * gigabyte, { bytes: 4 * gigabyte }).status, "ok");
  assert.equal(checkHostMemory(8 * gigabyte, { bytes: gigabyte / 2 }).status, "warning");
  const job = checkHostMemory(8 * gigabyte, { bytes: gigabyte / 2, limit: "SLURM_MEM_PER_NODE" });
  assert.equal(job.found, "512 MB available of 8192 MB, limited by SLURM_MEM_PER_NODE");
  assert.match(job.remedy ?? "", /a job with more memory/);
});

Deno.test("doctor: folders that can't be written", () => {
  using folder = new TemporaryFolder();
  assert.equal(checkRunFolder(folder.file("a/b/c")).status, "ok");
  assert.deepEqual([...Deno.readDirSync(folder.path)], []);
  const file = folder.file("file", "");
  assert.equal(checkRunFolder(folder.file("file/run")).status, "problem");
  assert.equal(checkCaches({ "Deno's": folder.path }).status, "ok");
  const caches = checkCaches({ "Deno's": folder.path, "tiles": file });
  assert.equal(caches.status, "warning");
  assert.match(caches.found, /^tiles: .* can't be written: it is no folder$/);
});

Deno.test("doctor: Deno beside the versions that the launcher goes by", () => {
  const versions = denoVersions(ROOT);
  assert.match(versions.pinned, new RegExp(`^${versions.minimum.replace(".", "\\.")}\\.\\d+$`));
  assert.equal(checkDeno(versions.pinned, versions, "Linux x86_64").status, "ok");
  assert.equal(checkDeno("3.1.4", versions, "Linux x86_64").status, "warning");
});

Deno.test("doctor: remedies stand below what they are for, and a warning stops nothing", () => {
  const checks = [ok("a", "fine"), warning("long", "so so", "Do better.")];
  assert.ok(canTrain(checks));
  assert.deepEqual(reportLines(checks), [
    "ok       a     fine",
    "warning  long  so so",
    "               → Do better.",
    "",
    "Training can run.",
  ]);
  const broken = [...checks, problem("b", "gone", "Bring it back.")];
  assert.ok(!canTrain(broken));
  assert.equal(reportLines(broken).at(-1), "Training can't run: 1 problem.");
});

Deno.test({
  name: "doctor: a probe that crashes, hangs or fails ends no more than itself",
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = new TemporaryFolder();
    const ending = async (script: string) => {
      Deno.writeTextFileSync(folder.file("launcher"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      return await probing(folder.file("launcher"))({ gpu: "deno", measure: true, seconds: 0.5 });
    };
    assert.deepEqual(await ending("kill -SEGV $$"), { failure: "its driver crashed (SIGSEGV)" });
    assert.deepEqual(await ending("exec sleep 60"), {
      failure: "its driver did not answer in 0.5 s",
    });
    assert.deepEqual(await ending("echo 'error: no GPU:\n    install' >&2; exit 1"), {
      failure: "no GPU: install",
    });
    assert.deepEqual(await ending("exit 7"), { failure: "it ended with exit code 7" });
    assert.deepEqual(await ending(`echo noise; echo '{"gpu": "'"$*"'"}'`), {
      found: { gpu: "doctor probe --gpu deno --measure" },
    });
  },
});
