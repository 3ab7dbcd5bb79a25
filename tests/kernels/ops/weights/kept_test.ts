import assert from "node:assert/strict";
import { programFamily } from "../../../../kernels/gpu/program.ts";
import { embedding } from "../../../../kernels/ops/embedding/embedding.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import { encoderOf } from "../../../../kernels/ops/weights/operand.ts";
import { download, gpuTest, poisoned, upload } from "../../harness.ts";
import { KEPT, kept } from "./kept.ts";
import { assertSameValues } from "../../../same.ts";

/** Eight values a thread as packed halves. */
const halves = programFamily("halves_of_weights", ({ kind }: { kind: string }) => {
  const b = weightKind(kind), { type, count } = b.registers(8);
  const names = Array.from({ length: count }, (_, r) => `r${r}`);
  return {
    bindings: [...b.bindings("b", 8), { name: "y", dtype: "u32", access: "write", words: 4 }],
    uniforms: {},
    body: `${b.functions("b", 8)}
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
${names.map((name, r) => `  let ${name}: ${type} = ${b.load("b", 8, "id.x", r)};`).join("\n")}
  y[id.x] = ${b.halves("b", names)};
}`,
  };
});

for (const name of KEPT) {
  gpuTest(`${name}: eight values are read as halves`, async (gpu) => {
    const { operand, values } = kept(gpu, name, [4, 256]);
    const y = poisoned(gpu, "u32", [values.length / 2]);
    gpu.run(halves({ kind: name }), [...operand.tensors, y], {}, [values.length / 8]);
    assertSameValues(new Float16Array(await gpu.read(y)), Float16Array.from(values), name);
  });

  gpuTest(`${name}: values are read to the bit, rows in any order`, async (gpu) => {
    const rows = 12, columns = 256, { operand, values } = kept(gpu, name, [rows, columns]);
    const order = [7, 0, 11, 3];
    const y = poisoned(gpu, "f32", [order.length, columns]);
    embedding(gpu, { table: operand, ids: upload(gpu, order, "u32", [4]), y, rows: order.length });
    const expected = order.flatMap((
      row,
    ) => [...values.subarray(row * columns, (row + 1) * columns)]);
    // Zeros of both signs are the same number.
    const found = (await download(gpu, y)).map((v) => v + 0);
    assertSameValues(found, Float64Array.from(expected, (v) => v + 0), name);
  });

  gpuTest(
    `${name}: scales that are no finite numbers are flagged, and values can't become it`,
    async (gpu) => {
      for (const [bad, flag] of [[1, 0], [NaN, 1], [-Infinity, 1]]) {
        const { operand } = kept(gpu, name, [4, 256], bad);
        const flags = upload(gpu, [7, 0, 0, 0], "u32", [4]);
        operand.kind.flagNotFinite(gpu, operand.tensors, { flags, slot: 1 });
        assert.deepEqual([...await download(gpu, flags)], [7, flag, 0, 0], `${bad}`);
        assert.throws(() => encoderOf(operand), /which values can't become/);
      }
    },
  );
}
