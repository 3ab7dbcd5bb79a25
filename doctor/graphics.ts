/**
 * The way to the GPU: loader, drivers, the adapter that a run gets, and Dawn.
 *
 * @module
 */
import type { VulkanSurvey } from "../scripts/launch/survey.ts";
import { type Check, ok, problem, warning } from "./check.ts";
import type { Probe } from "./probe.ts";
import type { Probed, RunProbe } from "./processes.ts";

/** What installs a driver that works without a GPU. */
function installSentence({ install }: VulkanSurvey): string {
  return install === undefined
    ? "Install the Vulkan loader and your GPU's driver, or Mesa's software driver (lavapipe)."
    : `Install the loader and Mesa's software driver with \`${install}\`, or your GPU's own driver.`;
}

/** The Vulkan loader. */
export function checkLoader(vulkan: VulkanSurvey): Check {
  return vulkan.loader === undefined
    ? problem("loader", "libvulkan.so.1 was not found", installSentence(vulkan))
    : ok("loader", vulkan.loader, { path: vulkan.loader });
}

/** The files of the drivers that a loader would try. */
function filesOf({ chosen, drivers }: VulkanSurvey): string[] {
  if (chosen === undefined) return [...drivers.nvidia, ...drivers.other, ...drivers.software];
  return chosen[1].split(":").filter((path) => path !== "");
}

/** One driver's file and the GPU that it gives. */
interface Driver {
  readonly file: string;
  readonly gpu?: string;
  /** Why it gives none. */
  readonly failure?: string;
}

/** Asks each driver by itself for its GPU. */
async function tryDrivers(files: readonly string[], run: RunProbe): Promise<Driver[]> {
  return await Promise.all(files.map(async (file) => {
    const env = { VK_DRIVER_FILES: file, VK_ICD_FILENAMES: file };
    const probed = await run({ gpu: "deno", env, seconds: 60 });
    if ("found" in probed) return { file, gpu: probed.found.gpu };
    return {
      file,
      failure: probed.failure.startsWith("no GPU adapter") ? "no GPU of its own" : probed.failure,
    };
  }));
}

/** `lvp_icd.x86_64.json` of a path. */
const nameOf = (file: string) => file.slice(file.lastIndexOf("/") + 1);

/** The remedy where a GPU is there and its driver is not, or where its devices can't be opened. */
function driverRemedy(
  { nvidia, devices }: VulkanSurvey,
  drivers: readonly Driver[],
): string | undefined {
  const works = (name: RegExp) =>
    drivers.some(({ file, gpu }) => gpu !== undefined && name.test(nameOf(file)));
  if (nvidia && !works(/^nvidia/)) {
    return "An NVIDIA GPU is here, but its Vulkan driver (nvidia_icd.json) gives none: in a container, start it " +
      "with NVIDIA_DRIVER_CAPABILITIES=all; elsewhere, install the driver's libraries for graphics.";
  }
  const closed = devices.find(({ opens }) => !opens);
  if (closed !== undefined && !works(/^(?!nvidia|lvp)/)) {
    return `Let this user open ${closed.path}, where a GPU is: usually by membership of the group render.`;
  }
  return undefined;
}

/** The drivers, each tried by itself. */
export async function checkDrivers(vulkan: VulkanSurvey, run: RunProbe): Promise<Check> {
  const files = filesOf(vulkan), { chosen } = vulkan;
  const drivers = vulkan.loader === undefined
    ? files.map((file) => ({ file, failure: "not tried without a loader" }))
    : await tryDrivers(files, run);
  const details = { drivers, chosen_by: chosen?.[0] };
  const said = drivers.map(({ file, gpu, failure }: Driver) => `${nameOf(file)}: ${gpu ?? failure}`)
    .join("; ");
  const source = chosen === undefined ? "" : ` (named by ${chosen[0]})`;
  const remedy = driverRemedy(vulkan, drivers);
  if (drivers.some(({ gpu }: Driver) => gpu !== undefined)) {
    return remedy === undefined
      ? ok("drivers", said + source, details)
      : warning("drivers", said + source, remedy, details);
  }
  const none = said === "" ? `no driver's file was found${source}` : said + source;
  return problem(
    "drivers",
    none,
    chosen === undefined
      ? remedy ?? installSentence(vulkan)
      : `Unset ${chosen[0]}, or name a driver's file in it that gives a GPU.`,
    details,
  );
}

/** The adapter that a run gets. @param drivers The check of the drivers, where there are any. */
export function checkGpu(probed: Probed, drivers?: Check): Check {
  if (!("found" in probed)) {
    const { failure } = probed;
    if (drivers?.status === "problem") {
      return problem("gpu", failure.split(/[:;] /)[0], "Do what is said of the drivers.");
    }
    const remedy = /out of memory/i.test(failure)
      ? "See with `nvidia-smi` which programs hold the GPU's memory, and end them or wait for them."
      : "Update the driver or take another WebGPU (--gpu deno or dawn); where it worked before, restart the machine.";
    return problem("gpu", failure, remedy);
  }
  const { gpu, provider, reason, software } = probed.found;
  const found = `${gpu} (${provider}: ${reason})`, details = { gpu, provider, reason, software };
  if (!software) return ok("gpu", found, details);
  return warning(
    "gpu",
    `${found}, which computes on the CPU`,
    "For more than the built-in example, use a machine with a GPU and its Vulkan driver.",
    details,
  );
}

/** Whether the GPU computes in f16. */
function checkF16({ f16 }: Probe): Check {
  if (f16) return ok("f16", "computes in f16 (shader-f16)", { f16 });
  const remedy =
    "Update the driver, or go on: f16 is stored all the same, and computed in f32, which is slower.";
  return warning("f16", "the driver has no shader-f16", remedy, { f16 });
}

function checkSubgroups({ subgroups, subgroup: { least, most } }: Probe): Check {
  const details = { subgroups, least_size: least, most_size: most };
  if (subgroups) {
    const size = least === most ? `${least}` : `${least} to ${most}`;
    return ok("subgroups", most > 0 ? `of ${size} threads` : "yes", details);
  }
  const remedy =
    "Update the driver, or go on: sums then go through workgroup memory, and decoding is slower.";
  return warning("subgroups", "the driver has none", remedy, details);
}

/** @param dawn The Dawn that was fetched. */
function checkTensorCores({ tensorCores, gpu }: Probe, dawn: string | undefined): Check {
  const details = { tensor_cores: tensorCores };
  if (tensorCores) return ok("tensor cores", "used in mixed precision", details);
  if (dawn === undefined && /nvidia|geforce|rtx|tesla|quadro/i.test(gpu)) {
    const remedy =
      "Run a command once with `--gpu dawn`, which fetches Dawn, whose WebGPU has them.";
    return warning("tensor cores", "Deno's WebGPU keeps them off", remedy, details);
  }
  return ok("tensor cores", "none that can be used", details);
}

/** What WebGPU guarantees, and a step of a 7B model needs more of or is slow with. */
const GUARANTEED = {
  maxStorageBufferBindingSize: 2 ** 27,
  maxComputeWorkgroupStorageSize: 2 ** 14,
};

function checkLimits({ limits, features }: Probe): Check {
  const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MB`;
  const found = [
    `bindings of ${mebibytes(limits.maxStorageBufferBindingSize)}`,
    `buffers of ${mebibytes(limits.maxBufferSize)}`,
    `${limits.maxStorageBuffersPerShaderStage} buffers a program`,
    `${limits.maxComputeWorkgroupStorageSize / 1024} KiB and ` +
    `${limits.maxComputeInvocationsPerWorkgroup} threads a workgroup`,
  ].join(", ");
  const details = { limits, features };
  const least = Object.entries(GUARANTEED).every(([name, value]) => limits[name] <= value);
  if (!least) return ok("limits", found, details);
  const remedy =
    "Unset LORIKEET_LIMITS where it says `default`, or update the driver; docs/limits.md says what it costs.";
  return warning("limits", `${found}: no more than WebGPU guarantees`, remedy, details);
}

/** What the GPU of a run can do. */
export function checkAbilities(probe: Probe, dawn: string | undefined): Check[] {
  return [
    checkLimits(probe),
    checkF16(probe),
    checkSubgroups(probe),
    checkTensorCores(probe, dawn),
  ];
}

/** Dawn, where it was fetched: whether it opens. */
export async function checkDawn(
  library: string | undefined,
  usual: Probed,
  run: RunProbe,
): Promise<Check> {
  if (library === undefined) {
    return ok("dawn", "not fetched; --gpu dawn of any command that computes does it", {
      fetched: false,
    });
  }
  const isDawn = "found" in usual && usual.found.provider === "dawn";
  const probed = isDawn ? usual : await run({ gpu: "dawn" });
  if ("found" in probed) {
    const { gpu, tensorCores } = probed.found;
    const details = { fetched: true, library, opens: true, gpu, tensor_cores: tensorCores };
    return ok("dawn", `${gpu}, ${tensorCores ? "with" : "without"} tensor cores`, details);
  }
  const remedy = /found no GPU/.test(probed.failure)
    ? "Use --gpu deno, or a newer driver: Dawn takes Mesa's software driver from version 25 on."
    : "Use --gpu deno, or remove that file (or unset DAWN_NODE) and let `--gpu dawn` fetch it again.";
  return warning(
    "dawn",
    `${library} does not open a GPU: ${probed.failure}`,
    remedy,
    { fetched: true, library, opens: false, failure: probed.failure },
  );
}
