/**
 * Entry point of `lorikeet bench`: measurements that a user can repeat. Every result is checked
 * before it is timed, and every time stands beside a roof measured in the same run.
 *
 * @module
 */
import { didYouMean, runMain, UserError } from "../kernels/errors.ts";
import { benchKernels } from "./kernels.ts";
import { benchMemory } from "./memory.ts";

const BENCHES = { kernels: benchKernels, memory: benchMemory };

const HELP = `lorikeet bench NAME [--json]

  kernels   matrix products of training's shapes in f32 and f16, and the copy bandwidth
  memory    what fine-tuning llama2-7b plans to allocate in every checkpointing mode; no GPU needed`;

async function main(): Promise<void> {
  const [name, ...flags] = Deno.args.filter((argument) => argument !== "--debug");
  if (name === undefined || name === "--help" || flags.includes("--help")) {
    console.log(HELP);
    return;
  }
  const bench = BENCHES[name as keyof typeof BENCHES];
  if (bench === undefined) {
    const near = didYouMean(name, Object.keys(BENCHES));
    throw new UserError(
      `bench "${name}" is unknown; expected ${Object.keys(BENCHES).join(" or ")}${near}`,
      2,
    );
  }
  const unknown = flags.find((flag) => flag !== "--json");
  if (unknown !== undefined) {
    throw new UserError(`flag ${unknown} is unknown${didYouMean(unknown, ["--json"])}`, 2);
  }
  await bench(flags.includes("--json"));
}

if (import.meta.main) await runMain(main);
