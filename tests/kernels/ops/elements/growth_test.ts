import { grow } from "../../../../kernels/ops/elements/growth.ts";
import { assertClose, download, gpuTest, randomArray, upload } from "../../harness.ts";

gpuTest(
  "growth: the first columns of rows, by their positions, whatever their order",
  async (gpu) => {
    const positions = Uint32Array.of(0, 6, 7, 8, 40, 13, 700_001, 3), width = 36, columns = 20;
    const growth = { beta: 0.3, period: 7 }, rows = positions.length - 1;
    for (const [dtype, tolerance] of [["f32", 1e-6], ["f16", 1e-3]] as const) {
      const X = upload(gpu, randomArray(positions.length * width, 1), dtype, [
        positions.length,
        width,
      ]);
      const x = await download(gpu, X);
      const at = upload(gpu, positions, "u32", [positions.length]);
      grow(gpu, { x: X, positions: at, growth, rows, columns });
      const expected = x.map((value, i) => {
        const row = Math.floor(i / width);
        if (row >= rows || i % width >= columns) return value;
        return value * (1 + 0.3 * Math.log(1 + Math.floor(positions[row] / 7)));
      });
      assertClose(await download(gpu, X), expected, { atol: 0, rtol: tolerance, what: dtype });
    }
  },
);
