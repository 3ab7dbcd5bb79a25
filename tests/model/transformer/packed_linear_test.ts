import assert from "node:assert/strict";
import { weightKind } from "../../../kernels/ops/weights/kinds.ts";
import { packLinears } from "../../../model/transformer/packed_linear.ts";
import { inputProduct, outputProduct } from "../../../model/transformer/packed_products.ts";
import { allocateParameters } from "../../../model/transformer/parameters.ts";
import { fill } from "../../kernels/ops/weights/kept.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  randomArray,
  upload,
} from "../../kernels/harness.ts";

/** Layers as they are in a file of several types: names of kinds, rows, and where each matrix of the product begins. */
const CASES: [kinds: string[], from: number[]][] = [
  [["q4_k", "q4_k", "q4_k"], [0]],
  [["q4_k", "q4_k", "q6_k"], [0, 192]],
  [["q4_0", "q6_k", "q6_k"], [0, 128]],
  [["q4_k", "q6_k", "q4_k"], [0, 128, 192]],
];
const ROWS = [128, 64, 64], WIDTH = 256, COLUMNS = 256, TOKENS = 5;

for (const [kinds, from] of CASES) {
  gpuTest(`layers in ${kinds.join(", ")} are ${from.length} products`, async (gpu) => {
    const specs = ROWS.map((rows, i) => ({
      name: String(i),
      shape: [rows, COLUMNS],
      trained: false,
    }));
    const frozen = (name: string) => weightKind(kinds[Number(name)]);
    const parameters = allocateParameters(gpu.memory, "block", specs, "f32", frozen);
    const values = parameters.flatMap(({ operand }) => [...fill(gpu, operand)]);
    const packed = packLinears(parameters.map((weight) => ({ weight })));
    assert.deepEqual(packed.weights.map((weight) => weight.from), from);
    assert.equal(packed.weight === undefined, from.length > 1);
    const x = randomArray(TOKENS * COLUMNS, 1), dy = randomArray(TOKENS * WIDTH, 2);
    const y = poisoned(gpu, "f32", [TOKENS, WIDTH]), dx = poisoned(gpu, "f32", [TOKENS, COLUMNS]);
    const pass = { rows: TOKENS, operands: "f32" } as const;
    const X = upload(gpu, x, "f32", [TOKENS, COLUMNS]);
    outputProduct(gpu, packed, { x: X, y, accumulate: false }, pass);
    inputProduct(gpu, packed, { dy: upload(gpu, dy, "f32", [TOKENS, WIDTH]), dx }, pass);
    const sum = (count: number, term: (i: number) => number) => {
      return Array.from({ length: count }, (_, i) => term(i)).reduce((a, b) => a + b);
    };
    const limits = { atol: 1e-4, rtol: 1e-5 };
    const outputs = Array.from({ length: TOKENS * WIDTH }, (_, at) => {
      const token = Math.floor(at / WIDTH), row = at % WIDTH;
      return sum(COLUMNS, (i) => x[token * COLUMNS + i] * values[row * COLUMNS + i]);
    });
    assertClose(await download(gpu, y), outputs, { ...limits, what: "y" });
    const gradients = Array.from({ length: TOKENS * COLUMNS }, (_, at) => {
      const token = Math.floor(at / COLUMNS), column = at % COLUMNS;
      return sum(WIDTH, (i) => dy[token * WIDTH + i] * values[i * COLUMNS + column]);
    });
    assertClose(await download(gpu, dx), gradients, { ...limits, what: "dx" });
  });
}
