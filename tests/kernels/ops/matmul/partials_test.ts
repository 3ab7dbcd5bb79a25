import { sumPartials } from "../../../../kernels/ops/matmul/partials.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { assertClose, download, gpuTest, poisoned, tolerance } from "../../harness.ts";
import { partialSums, ROWS } from "./partial_sums.ts";

gpuTest(
  "sumPartials adds up slots into columns of another tensor",
  async (gpu) => {
    for (const dtype of ["f32", "f16"] as Dtype[]) {
      for (const [width, splits] of [[36, 1], [260, 7], [4100, 3]]) {
        const { partials: d, total } = partialSums(gpu, splits, width);
        const stride = width + 12, c = poisoned(gpu, dtype, [ROWS, stride]);
        sumPartials(gpu, { d, c, cFrom: 8 });
        const expected = Float64Array.from({ length: ROWS * stride }, (_, i) => {
          const column = i % stride - 8;
          return column < 0 || column >= width
            ? NaN
            : total[Math.floor(i / stride) * width + column];
        });
        assertClose(await download(gpu, c), expected, { ...tolerance(dtype), what: `${width}` });
      }
    }
  },
);
