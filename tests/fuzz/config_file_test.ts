/** Configuration files that are damaged: `LORIKEET_FUZZ_INPUTS=1000` tries so many. */
import { join } from "node:path";
import { readTrainArguments } from "../../train/config/config.ts";
import { effectiveYaml } from "../../train/config/effective_config.ts";
import { ROOT } from "../../scripts/compile.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { demand, tries, Worst } from "./commands.ts";
import { hostileValue } from "./hostile_values.ts";
import { mutateBytes, type Picker, randomPicker } from "./mutate.ts";

const example = (name: string) => Deno.readTextFileSync(join(ROOT, "examples", name));

/** Files that are right. */
const SEEDS = [
  effectiveYaml(readTrainArguments([]).config, { places: new Map() }),
  example("builtin.yaml"),
  example("alpaca_7b.yaml").replaceAll(/(model|data): .*/g, "$1: builtin"),
  "model: builtin\ndata: builtin\nlora: {rank: 4, targets: [q_proj, v_proj]}\nbetas: [0.9, 0.99]\n",
];

/** A line with another value, key or place. */
function changeLine(lines: string[], pick: Picker): void {
  const at = pick(lines.length), line = lines[at], other = lines[pick(lines.length)];
  switch (pick(7)) {
    case 0:
      lines[at] = line.replace(/:.*/, () => `: ${hostileValue(pick)}`);
      break;
    case 1:
      lines[at] = line.replace(/:.*/, () => `: ${JSON.stringify(hostileValue(pick))}`);
      break;
    case 2:
      lines[at] = line.replace(/^\s*[\w.]*/, () => hostileValue(pick));
      break;
    case 3:
      lines.splice(at, 0, other);
      break;
    case 4:
      lines[at] = " ".repeat(pick(9)) + line;
      break;
    case 5:
      lines[at] = `${line.trimEnd()}${hostileValue(pick)}`;
      break;
    default:
      lines.splice(at, 1 + pick(3));
  }
}

function mutated(pick: Picker): Uint8Array {
  const lines = SEEDS[pick(SEEDS.length)].split("\n");
  for (let edits = 2 + pick(5); edits > 0 && lines.length > 0; edits--) changeLine(lines, pick);
  const bytes = new TextEncoder().encode(lines.join("\n"));
  return pick(4) === 0 ? mutateBytes(bytes, pick) : bytes;
}

Deno.test("fuzz: damaged configuration files end well or with one clear sentence", async () => {
  using folder = new TemporaryFolder();
  const worst = new Worst(), output = join(folder.path, "out");
  for (const number of tries()) {
    const pick = randomPicker(19_000_000 + number);
    const file = folder.file("run.yaml", mutated(pick));
    // A file that is right after all is to be run, but not for long.
    const short = ["--max-steps", "2", "--samples", "2", "--initial-loss-scale", "1024"];
    await demand("train", [file, ...short, "--output", output], output, worst);
  }
  worst.tell();
});
