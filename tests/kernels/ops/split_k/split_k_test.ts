import { sumSplitK } from "../../../../kernels/ops/split_k/split_k.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { assertClose, download, gpuTest, poisoned, tolerance } from "../../harness.ts";
import { ROWS, splitKSums } from "../matmul/split_k_sums.ts";

gpuTest(
  "sumSplitK adds up splits into columns of another tensor",
  async (gpu) => {
    for (const dtype of ["f32", "f16"] as Dtype[]) {
      for (const [width, splits] of [[36, 1], [260, 7], [4100, 3]]) {
        const { splitK: d, total } = splitKSums(gpu, splits, width);
        const stride = width + 12, c = poisoned(gpu, dtype, [ROWS, stride]);
        sumSplitK(gpu, { d, c, cFrom: 8 });
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
