/**
 * Which WebGPU a run takes, and why.
 *
 * @module
 */
import { UsageError, UserError } from "../../errors.ts";
import { dawnProvider } from "./dawn.ts";
import { denoProvider } from "./deno.ts";
import { onTensorCores } from "../subgroup_matrix.ts";
import { environment } from "./environment.ts";
import type { Provider } from "./provider.ts";

/** What `--gpu` takes. */
export const PROVIDERS = ["auto", "deno", "dawn"] as const;
/** One of {@linkcode PROVIDERS}. */
export type ProviderName = typeof PROVIDERS[number];

/** An adapter of the WebGPU that was chosen. */
export interface Choice {
  provider: Provider;
  adapter: GPUAdapter;
  /** Why this one, in a few words. */
  reason: string;
}

/** The message where there is no adapter: how to get one. */
const NO_ADAPTER = "no GPU adapter was found: install a Vulkan driver (a GPU's own, or on Debian " +
  "and Ubuntu the software driver: apt-get install mesa-vulkan-drivers libvulkan1)";

const HINT = "built in; --gpu dawn may have tensor cores, see docs/install.md";

/** Whether the adapter multiplies matrices on tensor cores. */
function hasTensorCores({ provider, adapter }: Pick<Choice, "provider" | "adapter">): boolean {
  return onTensorCores(provider.matrices(adapter));
}

async function find(provider: Provider): Promise<Pick<Choice, "provider" | "adapter">> {
  const adapter = await provider.requestAdapter();
  if (adapter === null) {
    throw new UserError(
      provider === dawnProvider ? "Dawn found no GPU that it can use" : NO_ADAPTER,
    );
  }
  return { provider, adapter };
}

/**
 * Finds the adapter to open. `auto` is the WebGPU that the variable LORIKEET_GPU names. Without the variable it is
 * Dawn where Dawn is installed, starts, and has tensor cores that the run can use. Otherwise it is Deno's own.
 *
 * @param precision What the run computes in; tensor cores are for `mixed`.
 * @throws {UserError} where no adapter is found, saying what to install, or Dawn was asked for and
 * can't be loaded.
 */
export async function chooseAdapter(
  name: ProviderName | undefined,
  precision?: "fp32" | "mixed",
): Promise<Choice> {
  const given = name === "auto" ? undefined : name;
  const asked = given ?? environment("LORIKEET_GPU") ?? "auto";
  if (!(PROVIDERS as readonly string[]).includes(asked)) {
    const where = given === undefined ? "LORIKEET_GPU" : "provider";
    throw new UsageError(`${where} is "${asked}"; expected ${PROVIDERS.join(", ")}`);
  }
  if (asked === "dawn") {
    const found = await find(dawnProvider);
    return { ...found, reason: hasTensorCores(found) ? "tensor cores" : "no tensor cores" };
  }
  if (asked === "deno" || precision !== "mixed") {
    return { ...await find(denoProvider), reason: "built in" };
  }
  if (environment("DAWN_NODE") === undefined) {
    const found = await find(denoProvider);
    return {
      ...found,
      reason: /nvidia/i.test(denoProvider.adapterName(found.adapter)) ? HINT : "built in",
    };
  }
  try {
    const found = await find(dawnProvider);
    if (hasTensorCores(found)) return { ...found, reason: "tensor cores" };
    return { ...await find(denoProvider), reason: "built in; Dawn has no tensor cores here" };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { ...await find(denoProvider), reason: `built in; ${error.message}` };
  }
}
