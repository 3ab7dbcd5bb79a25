import assert from "node:assert/strict";
import { readQuantization } from "../../../model/families/quantization_config.ts";
import { Fields } from "../../../model/files/json_fields.ts";

const read = (quantization_config: unknown) =>
  readQuantization(new Fields({ quantization_config }, "c.json"));

Deno.test("quantization_config: bitsandbytes' 4 and 8 bits are read, also from before methods had names", () => {
  assert.equal(read(undefined), undefined);
  assert.equal(read(null), undefined);
  const four = { load_in_4bit: true, load_in_8bit: false, bnb_4bit_quant_type: "nf4" };
  assert.deepEqual(read({ quant_method: "bitsandbytes", ...four }), { bits: 4, threshold: 6 });
  assert.deepEqual(read({ load_in_8bit: true, llm_int8_threshold: 0 }), { bits: 8, threshold: 0 });
});

Deno.test("quantization_config: other methods are refused by name, with what to take instead", () => {
  const known = {
    gptq: "GPTQ",
    awq: "AWQ",
    fp8: "FP8",
    fbgemm_fp8: "FP8 of FBGEMM",
    mxfp4: "MXFP4",
    "compressed-tensors": "compressed tensors of vLLM's llm-compressor",
    hqq: "HQQ",
    quanto: "Quanto",
    aqlm: "AQLM",
    eetq: "EETQ",
    higgs: "HIGGS",
    torchao: "torchao",
  };
  for (const [quant_method, name] of Object.entries(known)) {
    assert.throws(() => read({ quant_method, bits: 4 }), {
      name: "UserError",
      message:
        `c.json: quantization_config is of quant_method "${quant_method}" (${name}), expected ` +
        "bitsandbytes' 4 or 8 bits, a GGUF file, or the unquantised model that this one was made from",
    });
  }
  for (const quant_method of ["constructor", "new", 7, undefined]) {
    assert.throws(() => read({ quant_method }), {
      name: "UserError",
      message: /^c\.json: quantization_config is of quant_method ("\w+"|7|missing), expected bitsa/,
    });
  }
});

Deno.test("quantization_config: fields of bitsandbytes' are checked", () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [
      { quant_method: "bitsandbytes" },
      /with load_in_4bit false and load_in_8bit false, expected o/,
    ],
    [{ load_in_4bit: true, load_in_8bit: true }, /load_in_4bit true and load_in_8bit true, expect/],
    [
      { load_in_4bit: 1 },
      /^c\.json: quantization_config: load_in_4bit is 1, expected true or false/,
    ],
    [{ load_in_8bit: true, llm_int8_threshold: -1 }, /llm_int8_threshold is -1, expected a number/],
  ];
  for (const [json, message] of cases) {
    assert.throws(() => read(json), { name: "UserError", message });
  }
});
