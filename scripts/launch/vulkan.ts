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

/**
 * Whether the loader can be loaded; adds its folder to LD_LIBRARY_PATH if need be.
 *
 * @param sysroot The folder that /usr, /etc and /dev are looked for in; empty for the machine's own.
 */
export function findLoader(system: System, environment: Environment, sysroot: string): boolean {
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
  if ([...usual, ...given].some(holdsLoader)) return true;
  // Users often lack the sbin folders, where ldconfig lives.
  const path = `${environment.get("PATH") ?? ""}:/usr/sbin:/sbin`;
  const known = system.run("sh", ["-c", "ldconfig -p"], { env: { PATH: path } });
  if (known.stdout.includes(LOADER)) return true;
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
  if (folder === undefined) return false;
  addLibraryFolder(environment, folder);
  return true;
}

/** Driver files by whose they are. */
function driverFiles(
  system: System,
  sysroot: string,
): Record<"nvidia" | "software" | "other", string[]> {
  const files = { nvidia: [] as string[], software: [] as string[], other: [] as string[] };
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

/**
 * Whether a driver is there. Where only one kind can work, names it in VK_DRIVER_FILES, so that the
 * loader does not start (and hear complaints from) drivers of hardware that is not there.
 */
export function findDriver(system: System, environment: Environment, sysroot: string): boolean {
  const chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
  if (chosen.some((name) => environment.get(name) !== undefined)) return true;
  const files = driverFiles(system, sysroot);
  let driver: string | undefined;
  if (["nvidiactl", "nvidia0"].some((name) => system.exists(`${sysroot}/dev/${name}`))) {
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
    const nodes = system.names(`${sysroot}/dev/dri`).filter((name) => name.startsWith("renderD"))
      .map((name) => `${sysroot}/dev/dri/${name}`);
    // Several drivers may fit this GPU: the loader tries them, the software driver among them.
    if ([...nodes, `${sysroot}/dev/dxg`].some((node) => system.opens(node))) return true;
  }
  driver ??= files.software[0];
  if (driver === undefined) return false;
  // The second name is for loaders before 1.3.207.
  for (const name of chosen) environment.set(name, driver);
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
  const folder = system.makeFolder(store)
    ? `${store}/runtime`
    : `${environment.get("TMPDIR") ?? "/tmp"}/lorikeet-${Deno.uid()}`;
  system.makeFolder(folder, 0o700);
  environment.set("XDG_RUNTIME_DIR", folder);
}
