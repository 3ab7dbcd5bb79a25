/**
 * The Vulkan loader and driver on Linux: which there are, and what the environment must say of them.
 *
 * @module
 */
import type { Environment } from "./environment.ts";
import type { System } from "./system.ts";
import { installVulkan, refuseWithoutVulkan } from "./vulkan_packages.ts";

const LOADER = "libvulkan.so.1";

const DRIVER_FOLDERS = [
  "/usr/share/vulkan/icd.d",
  "/etc/vulkan/icd.d",
  "/usr/local/share/vulkan/icd.d",
  "/usr/local/etc/vulkan/icd.d",
  "/usr/local/nvidia/share/vulkan/icd.d",
  "/run/opengl-driver/share/vulkan/icd.d",
];

/** The processor's name as Debian's folders and Mesa's files have it. */
function processor({ name }: Pick<System, "name">): string {
  const machine = name.slice(name.indexOf(" ") + 1);
  return machine === "arm64" ? "aarch64" : machine;
}

function addLibraryFolder(environment: Environment, folder: string): void {
  const folders = environment.get("LD_LIBRARY_PATH");
  if (folders?.split(":").includes(folder)) return;
  environment.set("LD_LIBRARY_PATH", folders === undefined ? folder : `${folder}:${folders}`);
}

/** A loader that is there. */
export interface Loader {
  /** Its path, or its name where ldconfig alone knows the path. */
  readonly path: string;
  /** The folder that LD_LIBRARY_PATH has to name for it to be loaded, where it lies in no usual one. */
  readonly folder?: string;
}

/**
 * Where the loader is; undefined where it can't be loaded.
 *
 * @param sysroot The folder that /usr, /etc and /dev are looked for in; empty for the machine's own.
 */
export function locateLoader(
  system: System,
  environment: Environment,
  sysroot: string,
): Loader | undefined {
  const usual = [
    `/usr/lib/${processor(system)}-linux-gnu`,
    `/lib/${processor(system)}-linux-gnu`,
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
  ].map((folder) => sysroot + folder);
  const given = (environment.get("LD_LIBRARY_PATH") ?? "").split(":").filter((name) => name !== "");
  const holdsLoader = (folder: string) => system.exists(`${folder}/${LOADER}`);
  const at = [...usual, ...given].find(holdsLoader);
  if (at !== undefined) return { path: `${at}/${LOADER}` };
  // Users often lack the sbin folders, where ldconfig lives.
  const path = `${environment.get("PATH") ?? ""}:/usr/sbin:/sbin`;
  const known = system.run("sh", ["-c", "ldconfig -p"], { env: { PATH: path } });
  if (known.stdout.includes(LOADER)) return { path: LOADER };
  const [sdk, conda] = ["VULKAN_SDK", "CONDA_PREFIX"].map((name) => environment.get(name));
  const others = [
    ...[
      "/usr/local/lib",
      "/usr/local/lib64",
      "/usr/local/nvidia/lib64",
      "/usr/local/nvidia/lib",
      "/run/opengl-driver/lib",
    ].map((folder) => sysroot + folder),
    ...(sdk === undefined ? [] : [`${sdk}/lib`]),
    ...(conda === undefined ? [] : [`${conda}/lib`]),
  ];
  const folder = others.find(holdsLoader);
  return folder === undefined ? undefined : { path: `${folder}/${LOADER}`, folder };
}

/** Whether the loader can be loaded; adds its folder to LD_LIBRARY_PATH if need be. */
function findLoader(system: System, environment: Environment, sysroot: string): boolean {
  const loader = locateLoader(system, environment, sysroot);
  if (loader?.folder !== undefined) addLibraryFolder(environment, loader.folder);
  return loader !== undefined;
}

/** Paths of driver files, by whose they are. */
export type DriverFiles = Record<"nvidia" | "software" | "other", string[]>;

/** The driver files that loaders look for. */
export function driverFiles(system: System, sysroot: string): DriverFiles {
  const files: DriverFiles = { nvidia: [], software: [], other: [] };
  const software = [`lvp_icd.${processor(system)}.json`, "lvp_icd.json"];
  for (const folder of DRIVER_FOLDERS.map((name) => sysroot + name)) {
    for (const name of system.names(folder).filter((name) => name.endsWith(".json"))) {
      if (/\.i[3-6]86\.json$/.test(name)) continue; // for 32-bit programs
      if (name.startsWith("nvidia_icd")) files.nvidia.push(`${folder}/${name}`);
      else if (software.includes(name)) files.software.push(`${folder}/${name}`);
      else if (!name.startsWith("lvp_icd")) files.other.push(`${folder}/${name}`);
    }
  }
  return files;
}

/** Whether NVIDIA's kernel driver has a GPU. */
export function hasNvidiaGpu(system: System, sysroot: string): boolean {
  return ["nvidiactl", "nvidia0"].some((name) => system.exists(`${sysroot}/dev/${name}`));
}

/** The devices of GPUs that Mesa's drivers open. */
export function renderNodes(system: System, sysroot: string): string[] {
  const nodes = system.names(`${sysroot}/dev/dri`).filter((name) => name.startsWith("renderD"))
    .map((name) => `${sysroot}/dev/dri/${name}`);
  const windows = `${sysroot}/dev/dxg`; // in Windows' subsystem for Linux
  return system.exists(windows) ? [...nodes, windows] : nodes;
}

/** The variables by which users and the launcher name a driver; the second is for loaders before 1.3.207. */
export const DRIVER_VARIABLES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] as const;

/**
 * Whether a driver is there. Where only one kind can work, names it in VK_DRIVER_FILES, so that the
 * loader does not start (and hear complaints from) drivers of hardware that is not there.
 */
function findDriver(system: System, environment: Environment, sysroot: string): boolean {
  if (DRIVER_VARIABLES.some((name) => environment.get(name) !== undefined)) return true;
  const files = driverFiles(system, sysroot);
  let driver: string | undefined;
  if (hasNvidiaGpu(system, sysroot)) {
    [driver] = files.nvidia;
    if (driver === undefined) {
      system.say(
        "note: an NVIDIA GPU is here, but not its Vulkan driver (nvidia_icd.json), so it can't be used " +
          "(in a container: start it with NVIDIA_DRIVER_CAPABILITIES=all).",
      );
    } else if (driver.startsWith(`${sysroot}/usr/local/nvidia/`)) {
      addLibraryFolder(environment, `${sysroot}/usr/local/nvidia/lib64`);
    }
  }
  if (driver === undefined && files.other.length > 0) {
    // Several drivers may fit this GPU: the loader tries them, the software driver among them.
    if (renderNodes(system, sysroot).some((node) => system.opens(node))) return true;
  }
  driver ??= files.software[0];
  if (driver === undefined) return false;
  for (const name of DRIVER_VARIABLES) environment.set(name, driver);
  return true;
}

/**
 * Sets VK_DRIVER_FILES and what else the driver needs.
 *
 * @param install Whether the software driver may be installed where there is none.
 * @throws {Refused} where there is no loader or driver, with the command that installs them.
 */
export function prepareVulkan(
  system: System,
  environment: Environment,
  { store, install = false }: { store: string; install?: boolean },
): void {
  const sysroot = environment.get("LORIKEET_SYSROOT") ?? "";
  const isThere = () =>
    findLoader(system, environment, sysroot) && findDriver(system, environment, sysroot);
  if (!isThere()) {
    if (!install) refuseWithoutVulkan(system, sysroot);
    installVulkan(system, sysroot);
    if (!isThere()) refuseWithoutVulkan(system, sysroot);
  }
  // Without it Deno would fall back to OpenGL where Vulkan gives no adapter.
  environment.setDefault("DENO_WEBGPU_BACKEND", "vulkan");
  // Mesa complains on stderr where this is unset or no folder.
  const runtime = environment.get("XDG_RUNTIME_DIR");
  if (runtime !== undefined && system.exists(`${runtime}/.`)) return;
  const folder = [
    ...(system.makeFolder(store) ? [`${store}/runtime`] : []),
    `${environment.get("TMPDIR") ?? "/tmp"}/lorikeet-${Deno.uid()}`,
  ].find((path) => system.makeOwnFolder(path));
  if (folder !== undefined) environment.set("XDG_RUNTIME_DIR", folder);
}
