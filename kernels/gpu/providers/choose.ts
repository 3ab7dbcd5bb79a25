/**
 * Which WebGPU a run takes, and why.
 *
 * @module
 */
import { UsageError, UserError } from "../../errors.ts";
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

/** An implementation and its adapter. */
type Found = Pick<Choice, "provider" | "adapter">;

/** Whether the adapter multiplies matrices on tensor cores. */
function hasTensorCores({ provider, adapter }: Found): boolean {
  return onTensorCores(provider.matrices(adapter));
}

async function findDeno(): Promise<Found> {
  const adapter = await denoProvider.requestAdapter();
  if (adapter === null) throw new UserError(NO_ADAPTER);
  return { provider: denoProvider, adapter };
}

async function findDawn(): Promise<Found> {
  // Most runs do without it, and start sooner.
  const { dawnProvider } = await import("./dawn.ts");
  const adapter = await dawnProvider.requestAdapter();
  if (adapter === null) throw new UserError("Dawn found no GPU that it can use");
  return { provider: dawnProvider, adapter };
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
    const found = await findDawn();
    return { ...found, reason: hasTensorCores(found) ? "tensor cores" : "no tensor cores" };
  }
  if (asked === "deno" || precision !== "mixed") {
    return { ...await findDeno(), reason: "built in" };
  }
  if (environment("DAWN_NODE") === undefined) {
    const found = await findDeno();
    return {
      ...found,
      reason: /nvidia/i.test(denoProvider.adapterName(found.adapter)) ? HINT : "built in",
    };
  }
  try {
    const found = await findDawn();
    if (hasTensorCores(found)) return { ...found, reason: "tensor cores" };
    return { ...await findDeno(), reason: "built in; Dawn has no tensor cores here" };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { ...await findDeno(), reason: `built in; ${error.message}` };
  }
}
