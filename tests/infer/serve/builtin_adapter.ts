/** Adapters for the built-in model, strong enough to change what it says. */
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import { adapterShapes, writeAdapter } from "../../../model/adapter/adapter_folder.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { randomArray } from "../../kernels/harness.ts";

/** Writes one to a folder that is not there yet. */
export async function writeBuiltinAdapter(
  folder: string,
  { r, alpha, targets, seed }: { r: number; alpha: number; targets: string[]; seed: number },
): Promise<void> {
  const { config, weights } = openModel("builtin");
  weights?.close();
  const tensors = Array.from(
    adapterShapes(config, { r, target_modules: targets }),
    ([name, shape], i) => {
      const data = Float32Array.from(randomArray(shape[0] * shape[1], seed + i, 0.15));
      return [name, { shape, data }] as const;
    },
  );
  const own = adapterConfig({ r, lora_alpha: alpha, target_modules: targets });
  await writeAdapter(folder, own, new Map(tensors));
}
