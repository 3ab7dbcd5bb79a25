/** What an adapter's file says of the quantised weights that it was trained beside. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import { readAdapter, writeAdapter } from "../../../model/adapter/adapter_folder.ts";
import { openSafetensors } from "../../../model/formats/safetensors.ts";
import {
  baseMetadata,
  type BaseQuantization,
  baseQuantization,
  describeBase,
} from "../../../model/transformer/base_quantization.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { fixturePath } from "../../fixtures.ts";

const NONE: BaseQuantization = {
  quantization: "none",
  double_quantization: true,
  quantization_skip: [],
  stored: [],
};

const CASES: [base: BaseQuantization, words: string][] = [
  [{ ...NONE, quantization: "nf4" }, "nf4"],
  [{ ...NONE, quantization: "nf4", double_quantization: false }, "nf4"],
  [
    { ...NONE, quantization: "int8", quantization_skip: ["o_proj", "layers.1.mlp.up_proj"] },
    "int8",
  ],
  [{ ...NONE, stored: ["Q4_K", "Q6_K"] }, "Q4_K and Q6_K"],
];

Deno.test("base quantisation: is in the adapter's file, whose format PEFT finds as ever", async () => {
  using folder = new TemporaryFolder();
  const tensors = new Map([["a", { shape: [2, 1], data: Float32Array.of(1, 2) }]]);
  const config = adapterConfig({ r: 1, target_modules: ["q_proj"] });
  for (const [i, [base, words]] of CASES.entries()) {
    const path = folder.file(String(i));
    await writeAdapter(path, config, tensors, baseMetadata(base));
    assert.deepEqual(baseQuantization(readAdapter(path).metadata), base);
    assert.equal(describeBase(base), words);
    const file = openSafetensors(join(path, "adapter_model.safetensors"));
    assert.equal(file.metadata.format, "pt");
    file.close();
  }
});

Deno.test("base quantisation: nothing is said where there was none, or by others", async () => {
  using folder = new TemporaryFolder();
  assert.deepEqual(baseMetadata(NONE), {});
  // The flags of nf4 mean nothing without it.
  assert.deepEqual(baseMetadata({ ...NONE, double_quantization: false }), {});
  assert.equal(
    baseQuantization({ format: "pt", base_quantization: "of another program" }),
    undefined,
  );
  assert.equal(baseQuantization(readAdapter(fixturePath("adapter_qv")).metadata), undefined);
  const tensors = new Map([["a", { shape: [1], data: Float32Array.of(1) }]]);
  const path = folder.file("plain");
  await writeAdapter(path, adapterConfig({ r: 1, target_modules: ["q_proj"] }), tensors);
  assert.deepEqual(readAdapter(path).metadata, { format: "pt" });
});
