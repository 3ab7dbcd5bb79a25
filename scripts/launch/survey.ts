/**
 * What the launcher sees of a machine, for `doctor`: Deno lets only a program that may do everything look into /dev.
 *
 * @module
 */
import { dawnLibrary } from "./dawn.ts";
import type { Environment } from "./environment.ts";
import type { System } from "./system.ts";
import {
  DRIVER_VARIABLES,
  type DriverFiles,
  driverFiles,
  hasNvidiaGpu,
  locateLoader,
  renderNodes,
} from "./vulkan.ts";
import { installCommand } from "./vulkan_packages.ts";

/** What Vulkan needs on Linux. */
export interface VulkanSurvey {
  /** The loader's path or name; absent where it can't be loaded. */
  readonly loader?: string;
  /** The driver files that loaders look for. */
  readonly drivers: DriverFiles;
  /** The variable and its value by which the user names drivers. */
  readonly chosen?: readonly [variable: string, value: string];
  /** Whether NVIDIA's kernel driver has a GPU. */
  readonly nvidia: boolean;
  /** Devices of other GPUs, and whether this user may open them. */
  readonly devices: readonly { readonly path: string; readonly opens: boolean }[];
  /** The command that installs a software driver and the loader, where one is known. */
  readonly install?: string;
}

/** What the launcher sees. */
export interface Survey {
  /** As `uname -sm` has it. */
  readonly system: string;
  /** The folder that the launcher keeps things in. */
  readonly store: string;
  /** The user's folder of caches. */
  readonly cache: string;
  /** Deno's folder of packages and compiled modules; absent where Deno has it at its usual place. */
  readonly denoDir?: string;
  /** The Dawn that commands get; absent where none was fetched or named. */
  readonly dawn?: string;
  /** Absent where the system has another way to its GPUs. */
  readonly vulkan?: VulkanSurvey;
}

function surveyVulkan(system: System, environment: Environment): VulkanSurvey {
  const sysroot = environment.get("LORIKEET_SYSROOT") ?? "";
  const variable = DRIVER_VARIABLES.find((name) => environment.get(name) !== undefined);
  return {
    loader: locateLoader(system, environment, sysroot)?.path,
    drivers: driverFiles(system, sysroot),
    chosen: variable && [variable, environment.get(variable) ?? ""],
    nvidia: hasNvidiaGpu(system, sysroot),
    devices: renderNodes(system, sysroot)
      .map((path) => ({ path, opens: system.opens(path) })),
    install: installCommand(system, sysroot),
  };
}

/** Looks at the machine; changes nothing. */
export function survey(
  system: System,
  environment: Environment,
  { store, cache }: { store: string; cache: string },
): Survey {
  const fetched = dawnLibrary(store);
  return {
    system: system.name,
    store,
    cache,
    denoDir: environment.get("DENO_DIR"),
    dawn: environment.get("DAWN_NODE") ?? (system.exists(fetched) ? fetched : undefined),
    vulkan: system.name.startsWith("Linux") ? surveyVulkan(system, environment) : undefined,
  };
}
