/**
 * The packages with a Vulkan driver: the command that installs them, and installing them where that is asked for.
 *
 * @module
 */
import { Refused, sayLastWords, type System } from "./system.ts";

const DEBIAN_PACKAGES = ["mesa-vulkan-drivers", "libvulkan1"];

function isRoot(system: System): boolean {
  return system.run("id", ["-u"]).stdout.trim() === "0";
}

/** The command that installs Mesa's software driver and the loader on this system, where one is known. */
export function installCommand(system: System, sysroot: string): string | undefined {
  if (system.has("apt-get")) {
    return `${isRoot(system) ? "" : "sudo "}apt-get install -y ${DEBIAN_PACKAGES.join(" ")}`;
  }
  const release = system.read(`${sysroot}/etc/os-release`) ?? "";
  const like = [...release.matchAll(/^ID(?:_LIKE)?=(.*)$/gm)].map(([, names]) => names).join(" ");
  if (/fedora|rhel|centos/.test(like)) {
    return "sudo dnf install -y mesa-vulkan-drivers vulkan-loader";
  }
  if (/arch/.test(like)) return "sudo pacman -S --needed vulkan-swrast vulkan-icd-loader";
  if (/suse/.test(like)) return "sudo zypper install -y libvulkan_lvp libvulkan1";
  return undefined;
}

/** @throws {Refused} always, with the command to run. */
export function refuseWithoutVulkan(system: System, sysroot: string): never {
  const command = installCommand(system, sysroot);
  throw new Refused(
    "no Vulkan driver (or no loader, libvulkan.so.1) was found; Lorikeet computes through Vulkan.\n" +
      (command === undefined
        ? "Install your GPU's Vulkan driver or Mesa's software driver (lavapipe), and the Vulkan loader."
        : "Install Mesa's software driver, which works without a GPU, with:\n" +
          `    ${command}` +
          (command.startsWith("apt-get") ? "\nor let `./lorikeet --install` do it." : "")),
  );
}

/** Installs the software driver and the loader with apt-get. @throws {Refused} where that is not possible. */
export function installVulkan(system: System, sysroot: string): void {
  if (!system.has("apt-get") || !isRoot(system)) refuseWithoutVulkan(system, sysroot);
  system.say(
    `Installing a Vulkan driver (${DEBIAN_PACKAGES.join(" ")}) with apt-get (one time)...`,
  );
  const install = () =>
    system.run("apt-get", [
      "install",
      "-y",
      "-qq",
      "--no-install-recommends",
      "-o",
      "DPkg::Lock::Timeout=120",
      ...DEBIAN_PACKAGES,
    ], { env: { DEBIAN_FRONTEND: "noninteractive" } });
  // The first try serves machines whose package lists are fresh; most container images have none.
  let ended = install();
  if (!ended.success) {
    ended = system.run("apt-get", ["update", "-qq"]);
    if (ended.success) ended = install();
  }
  if (ended.success) return;
  sayLastWords(system, "apt-get's", ended);
  throw new Refused(
    `no Vulkan driver was found, and \`apt-get install ${DEBIAN_PACKAGES.join(" ")}\` failed.`,
  );
}
