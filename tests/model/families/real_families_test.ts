/** Models that transformers wrote: its logits, its greedy tokens, and three steps of PEFT's training. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { encodePrompt } from "../../../model/text/prompt.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { numericsOf } from "../../../model/transformer/modes.ts";
import { realFolder, realTest } from "../../real.ts";
import { assertGreedy, assertLogits, assertTraining } from "./beside_transformers.ts";

const MIXED = numericsOf({ precision: "mixed", exact_products: false });
const NAMES = [
  "mistral",
  "mistral_hd32",
  "qwen2",
  "qwen3",
  "smollm3",
  "granite",
  "olmo2",
  "seed_oss",
  "exaone4",
  "gemma2",
  "gemma3text",
  "helium",
  "llama_yarn",
  "phi3",
];
/** Was trained there with the dropout of its config.json, whose random numbers are PyTorch's. */
const WITH_DROPOUT = "seed_oss";

/** A JSON file of the archive. */
function read(...path: string[]) {
  return JSON.parse(Deno.readTextFileSync(join(realFolder(), "models", ...path)));
}

for (const name of NAMES) {
  realTest(`real ${name}: logits and greedy tokens are transformers'`, async (gpu) => {
    const folder = join(realFolder(), "models", name);
    const expected = read(name, "expected.json"), { prompt_ids: prompt, greedy } = expected;
    const tokenizer = await loadTokenizer(folder);
    assert.deepEqual([...encodePrompt(tokenizer, expected.prompt)], prompt);
    const { logits_first, logits_last } = expected;
    const rows = new Map([[0, logits_first], [prompt.length - 1, logits_last]]);
    await assertLogits(gpu, folder, { ids: prompt, rows }, { numerics: EXACT, tolerance: 1e-4 });
    await assertLogits(gpu, folder, { ids: prompt, rows }, { numerics: MIXED, tolerance: 1e-2 });
    await assertGreedy(gpu, folder, { prompt, greedy });
  });

  if (name === WITH_DROPOUT) continue;
  realTest(`real ${name}: three steps of training are PEFT's`, async (gpu) => {
    const folder = join(realFolder(), "models", name), adapter = join(folder, "train_adapter");
    const training = read(name, "train_expected.json");
    await assertTraining(gpu, folder, training, { adapter });
    const tolerance = { loss: 1e-2, norm: 1e-2 };
    await assertTraining(gpu, folder, training, { adapter, precision: "mixed", tolerance });
  });
}
