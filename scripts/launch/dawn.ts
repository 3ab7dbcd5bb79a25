/**
 * Dawn's library: where it is, and fetching it.
 *
 * @module
 */
import type { Environment } from "./environment.ts";
import { Refused, sayLastWords, type System } from "./system.ts";

const VERSION = "0.6.2";

/** Where Dawn's library lies once it was fetched. */
export function dawnLibrary(store: string): string {
  return `${store}/dawn-${VERSION}/dawn.node`;
}

/**
 * Sets DAWN_NODE to Dawn's library where it was fetched before; `dawn` fetches it.
 *
 * @param gpu What the command asks for.
 * @returns The library where the program may load it. Native code is bound by no other permission, so no other
 * may be loaded.
 */
export function prepareDawn(
  system: System,
  environment: Environment,
  { gpu, deno, store }: { gpu: string; deno: string; store: string },
): string | undefined {
  if (gpu === "deno") return undefined;
  const own = environment.get("DAWN_NODE");
  if (own !== undefined) return own;
  const library = dawnLibrary(store);
  if (!system.exists(library)) {
    if (gpu !== "dawn") return undefined;
    fetchDawn(system, library, { deno, store });
  }
  environment.set("DAWN_NODE", library);
  return library;
}

/** The folder of npm's webgpu with this system's library. */
function distribution(name: string): string {
  if (name === "Linux x86_64") return "linux-x64";
  if (name === "Linux aarch64" || name === "Linux arm64") return "linux-arm64";
  if (name.startsWith("Darwin")) return "darwin-universal";
  if (name.startsWith("Windows")) {
    throw new Refused(
      "Dawn is not fetched on Windows, where it has not been tried: expected --gpu auto or deno, or your own " +
        "dawn.node in DAWN_NODE.",
    );
  }
  throw new Refused(
    `npm's webgpu has no Dawn for this system (${name}): expected --gpu auto or deno.`,
  );
}

/** Fetches npm's package with Deno, which is there in any case, and keeps only this system's library. */
function fetchDawn(
  system: System,
  library: string,
  { deno, store }: { deno: string; store: string },
): void {
  const folder = distribution(system.name);
  if (!system.makeFolder(store)) {
    throw new Refused(
      `${store} can't be written to install Dawn: name its dawn.node in DAWN_NODE.`,
    );
  }
  system.say(`Installing Dawn (npm's webgpu ${VERSION}, 51 MB to fetch, one time)...`);
  const scratch = system.makeScratch(store);
  try {
    system.write(`${scratch}/package.json`, `{"dependencies": {"webgpu": "${VERSION}"}}`);
    const ended = system.run(
      deno,
      ["install", "--quiet", "--no-lock", "--node-modules-dir=auto"],
      { cwd: scratch, env: { DENO_DIR: `${scratch}/cache` } },
    );
    if (!ended.success) {
      sayLastWords(system, "Deno's", ended);
      throw new Refused(`npm's webgpu@${VERSION}, which holds Dawn, could not be fetched.`);
    }
    system.makeFolder(library.slice(0, library.lastIndexOf("/")));
    // The last step is one rename, so that an interrupted install leaves nothing half there.
    system.move(`${scratch}/node_modules/webgpu/dist/${folder}/dawn.node`, library);
  } finally {
    system.remove(scratch);
  }
}
