/**
 * Entry point of `lorikeet bench`: measurements that a user can repeat. Every result is checked
 * before it is timed, and every time stands beside a roof measured in the same run.
 *
 * @module
 */
import { UsageError } from "../kernels/errors.ts";
import { didYouMean } from "../kernels/suggestion.ts";
import { printLine } from "../kernels/terminal.ts";
import { runMain } from "../cli/run_main.ts";
import { benchDecode } from "./decode.ts";
import { benchDevice } from "./device.ts";
import { benchKernels } from "./kernels.ts";
import { benchLoad } from "./load.ts";
import { benchMemory } from "./memory.ts";
import { benchPeers } from "./course/peers.ts";
import { LONGEST } from "./samples.ts";
import { benchSave } from "./save.ts";
import { benchServe } from "./serve/serve.ts";
import { benchTable1 } from "./course/table1.ts";
import { benchTable2 } from "./course/table2_command.ts";
import { benchTimeline } from "./course/timeline.ts";
import { benchTrain } from "./train.ts";
import { benchTune } from "./tune.ts";

/** A bench that has no flag but `--json`. */
function plain(bench: (json: boolean) => void | Promise<void>) {
  return async (flags: readonly string[]) => {
    if (flags.includes("--help")) return printLine(HELP);
    const unknown = flags.find((flag) => flag !== "--json");
    if (unknown !== undefined) {
      throw new UsageError(`flag ${unknown} is unknown${didYouMean(unknown, ["--json"])}`);
    }
    await bench(flags.includes("--json"));
  };
}

const BENCHES = {
  decode: benchDecode,
  device: benchDevice,
  kernels: benchKernels,
  load: benchLoad,
  memory: plain(benchMemory),
  peers: benchPeers,
  save: benchSave,
  serve: benchServe,
  table1: benchTable1,
  table2: benchTable2,
  timeline: benchTimeline,
  train: benchTrain,
  tune: benchTune,
};

const HELP = `lorikeet bench NAME [--flag value ...]

  decode    generation with and without the KV cache: [--model M] [--contexts 128,1024] [--plot FILE.svg]
  device    which GPU, WebGPU and driver a run gets
  kernels   every kernel of training and decoding beside the roofs: [--tokens 121,968] [--dtype f16|f32]
            [--only NAME] [--plot FILE.svg]
  load      weights from a file to the GPU, beside \`cat\`: [--gigabytes 2] [--dtype f16|f32|bf16]
  memory    what fine-tuning llama2-7b plans to allocate in every checkpointing mode; no GPU needed
  peers     table 2's rows in turn with the same in PyTorch, where a Python has it, and the ratios:
            [--python python3] [--model M] [--samples 200] [--only TEXT] [--folder DIR] [--markdown]
  save      a run that saves states beside one that doesn't: [--model M] [--lora off] [--every 50] [--folder DIR]
  serve     a server with clients that ask over HTTP: [--model M] [--clients 1,8,32,128] [--prompt 512]
            [--tokens 128] [--prefix 2000], or one that runs already: --url http://127.0.0.1:8080
  table1    the course's table 1: which way each technique moves memory and computation, with the numbers
  table2    the course's table 2: memory and time of every combination of its techniques, each in a
            process of its own: [--model M] [--samples 200] [--folder DIR] [--markdown]
  timeline  memory in use after every launch of a training step: [--checkpointing MODE] [--tokens ${LONGEST.tokens}]
            [--inference] [--plot FILE.svg]
  train     training steps of the course's run: [--model M] [--packing] [--checkpointing MODE] [--profile],
            or time and memory against the tokens of a step: --tokens 128,1024,8192 [--plot FILE.svg]
  tune      matrix products with the tiles that may suit this GPU best; what is best is kept for later
            runs: [--model M] [--precision mixed|fp32] [--no-lora] [--tokens 320] [--file FILE.json]

All take --json, and all but load and memory --gpu; NAME --help tells the other flags.`;

/** One of the benches, which the first argument names. */
export async function main(args: string[]): Promise<void> {
  const [name, ...flags] = args.filter((argument) => argument !== "--debug");
  if (name === undefined || name === "--help") {
    printLine(HELP);
    return;
  }
  const bench = BENCHES[name as keyof typeof BENCHES];
  if (bench === undefined) {
    const near = didYouMean(name, Object.keys(BENCHES));
    throw new UsageError(
      `bench "${name}" is unknown; expected ${Object.keys(BENCHES).join(", ")}${near}`,
    );
  }
  await bench(flags);
}

if (import.meta.main) await runMain(main);
