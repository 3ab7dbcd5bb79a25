/** What is wrong with a quantised folder is said in a sentence that names the tensor, or the method. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fixturePath } from "../../../fixtures.ts";
import { openHearing } from "../hearing.ts";
import {
  floatTensor,
  readTensors,
  type StoredTensor,
  tensorsBytes,
  textTensor,
} from "./stored_tensors.ts";

type Tensors = Map<string, StoredTensor>;
type Change = (tensors: Tensors) => void;

const Q = "model.layers.0.self_attn.q_proj.weight", SCB = "model.layers.0.self_attn.q_proj.SCB";
const STATE = `${Q}.quant_state.bitsandbytes__nf4`;

/** What is said of a folder when a few of its tensors, or what config.json says of its quantisation, were changed. */
function problemOf(
  name: string,
  { tensors: change, config }: { tensors?: Change; config?: Record<string, unknown> },
): string {
  const folder = Deno.makeTempDirSync(), from = fixturePath(`bnb/${name}`);
  try {
    const tensors = readTensors(join(from, "model.safetensors"));
    change?.(tensors);
    Deno.writeFileSync(join(folder, "model.safetensors"), tensorsBytes(tensors));
    const json = JSON.parse(Deno.readTextFileSync(join(from, "config.json")));
    Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify({ ...json, ...config }));
    const { source, said } = openHearing(folder);
    source.close();
    return said.join("\n");
  } catch (error) {
    assert.ok(error instanceof Error);
    assert.equal(error.name, "UserError", error.stack);
    assert.ok(error.message.startsWith(folder), error.message);
    return error.message.slice(folder.length + 1);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const without = (name: string): Change => (tensors) => tensors.delete(name);
const change = (name: string, by: Partial<StoredTensor>): Change => (tensors) => {
  tensors.set(name, { ...(tensors.get(name) ?? assert.fail(name)), ...by });
};
const state = (by: Record<string, unknown>): Change => (tensors) => {
  const { bytes } = tensors.get(STATE) ?? assert.fail();
  const json = JSON.parse(new TextDecoder().decode(bytes));
  tensors.set(STATE, textTensor(JSON.stringify({ ...json, ...by })));
};

const CASES: [folder: string, change: Change, problem: RegExp][] = [
  ["nf4_cpu", without(STATE), /q_proj.weight" has dtype F32, but not ".*__nf4" that says how/],
  ["nf4_cpu", without(`${Q}.absmax`), /weight" is quantised, but ".*absmax" that belongs to it is/],
  ["nf4_cpu", without(`${Q}.quant_map`), /quantised, but ".*quant_map" that belongs to it is/],
  ["nf4_cpu", without(`${Q}.nested_absmax`), /quantised, but ".*nested_absmax" that belongs/],
  ["nf4_cpu", without(`${Q}.nested_quant_map`), /quantised, but ".*nested_quant_map" that/],
  ["nf4_cpu", change(Q, { dtype: "I32" }), /q_proj.weight" has dtype I32, expected one of U8, I8/],
  ["nf4_cpu", change(Q, { shape: [352, 2] }), /has shape \[352,2\], expected \[704,1\] for 5632 c/],
  ["nf4_cpu", change(`${Q}.absmax`, { shape: [4, 11] }), /has shape \[4,11\], expected \[44\]/],
  ["nf4_cpu", change(`${Q}.absmax`, { dtype: "I8" }), /absmax" has dtype I8, expected U8/],
  ["nf4_bf16", change(`${Q}.absmax`, { dtype: "I32" }), /absmax" has dtype I32, expected F32/],
  [
    "nf4_bf16",
    change(`${Q}.quant_map`, floatTensor(Array.from({ length: 16 }, (_, i) => i / 15))),
    /quant_map" has other numbers than the sixteen of nf4/,
  ],
  ["nf4_bf16", change(`${Q}.quant_map`, floatTensor([1, 2])), /shape \[2\], expected \[16\]/],
  [
    "nf4_cpu",
    change(`${Q}.nested_quant_map`, floatTensor(Array(256).fill(0))),
    /nested_quant_map" is no map of codes: expected 256 numbers from -1 to 1 in order/,
  ],
  ["nf4_bf16", change(STATE, textTensor("[1]")), /__nf4" is no JSON object/],
  ["nf4_bf16", change(STATE, textTensor('{"a":')), /__nf4" is no JSON object/],
  ["nf4_bf16", change(STATE, textTensor('{"a":'.repeat(9) + "0" + "}".repeat(9))), /no JSON ob/],
  ["nf4_bf16", change(STATE, textTensor(" ".repeat(70_000))), /70000 bytes, expected at most 6/],
  ["nf4_bf16", change(STATE, floatTensor([1])), /__nf4" has dtype F32, expected U8/],
  ["nf4_bf16", state({ quant_type: "fp4" }), /quant_type is "fp4", expected "nf4"/],
  ["nf4_bf16", state({ shape: [88, 64] }), /shape is \[88,64\], expected \[64,88\], as config/],
  ["nf4_bf16", state({ blocksize: 48 }), /blocksize is 48, expected a power of two/],
  ["nf4_bf16", state({ blocksize: 0 }), /blocksize is 0, expected a whole number/],
  ["nf4_bf16", state({ blocksize: 128 }), /absmax" has shape \[88\], expected \[44\]/],
  ["nf4_cpu", state({ nested_blocksize: 3 }), /nested_blocksize is 3, expected a power of two/],
  ["nf4_cpu", state({ nested_offset: "0" }), /nested_offset is "0", expected a number/],
  ["nf4_cpu", state({ nested_offset: 1e39 }), /nested_offset is 1e\+39, expected a number/],
  ["nf4_cpu", state({ nested_offset: null }), /nested_offset is null, expected a number/],
  ["int8", without(SCB), /weight" is quantised, but ".*SCB" that belongs to it/],
  ["int8", change(SCB, { shape: [1, 64] }), /SCB" has shape \[1,64\], expected \[64\]/],
  ["int8", change(Q, { dtype: "U8" }), /q_proj.weight" has dtype U8, expected I8 of a weight with/],
  ["int8", change(Q, { shape: [88, 64] }), /has shape \[88,64\], but config.json needs \[64,88\]/],
  [
    "int8",
    change(`${SCB.slice(0, -3)}weight_format`, { bytes: Uint8Array.of(2) }),
    /weight_format" is "col_turing", expected 0: rows one after the other/,
  ],
  [
    "int8",
    change(`${SCB.slice(0, -3)}weight_format`, floatTensor([0])),
    /weight_format" is no single byte, expected 0/,
  ],
];

Deno.test("bitsandbytes: the tensor that is wrong is named, and what was expected", () => {
  for (const [folder, tensors, problem] of CASES) {
    const message = problemOf(folder, { tensors });
    assert.match(message, /^model\.safetensors: tensor "/);
    assert.match(message, problem);
  }
});

Deno.test("bitsandbytes: quantised tensors need a quantization_config", () => {
  const config = { quantization_config: null };
  assert.match(problemOf("fp4", { config }), /has shape \[\d+,1\], but config.json needs/);
  assert.match(problemOf("int8", { config }), /has dtype I8, expected F32, F16 or BF16/);
});

Deno.test("bitsandbytes: a folder of which nothing is quantised any more is read as it is", () => {
  const config = { quantization_config: { load_in_8bit: true } };
  const change: Change = (tensors) => {
    for (const [name, { shape, dtype }] of tensors) {
      if (dtype !== "I8") continue;
      tensors.set(name, floatTensor(Array(shape[0] * shape[1]).fill(1), shape));
      tensors.delete(name.replace(/weight$/, "SCB"));
    }
  };
  assert.match(
    problemOf("int8", { config, tensors: change }),
    /config\.json has a quantization_config, but none of the weights is quantised: they are read/,
  );
});

Deno.test("bitsandbytes: a quantised output projection is no tied embedding", () => {
  const shape = [40, 88], config = { tie_word_embeddings: true };
  const change: Change = (tensors) => {
    tensors.set("lm_head.weight", { dtype: "I8", shape, bytes: new Uint8Array(40 * 88) });
    tensors.set("lm_head.SCB", floatTensor(Array(40).fill(1)));
  };
  assert.match(problemOf("int8", { config, tensors: change }), /the model is read as untied/);
});
