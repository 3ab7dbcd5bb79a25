/** Optimizer steps on small vectors against torch.optim. */
import type { Gpu } from "../../kernels/gpu.ts";
import { CONTROL, initialControl } from "../../kernels/loss_scale.ts";
import type { Parameter } from "../../model/parameters.ts";
import { Optimizer } from "../../train/optimizer.ts";
import { type OptimizerCase, readFixture } from "../fixtures.ts";
import { assertClose, gpuTest, upload } from "../kernels/harness.ts";

/** A fixture's vector as a trained parameter; as a matrix, since only matrices are decayed. */
function parameterOf(gpu: Gpu, { start }: OptimizerCase): Parameter {
  const shape = [1, start.length];
  const master = upload(gpu, start, "f32", shape);
  const grad = upload(gpu, start.map(() => 0), "f32", shape);
  return { name: "vector", shape, value: master, trained: { master, grad } };
}

for (const scale of [1, 1024]) {
  gpuTest(`optimizer steps equal PyTorch's, with a loss scale of ${scale}`, async (gpu) => {
    for (const c of readFixture("optimizers.json")) {
      const parameter = parameterOf(gpu, c);
      const { optimizer, betas, eps, weight_decay, max_grad_norm } = c;
      const settings = { optimizer, betas, eps, weight_decay, max_grad_norm };
      const optimizing = new Optimizer(
        gpu.memory,
        [parameter],
        { ...settings, precision: "fp32" },
        gpu.maxBinding,
      );
      const control = upload(gpu, initialControl(scale), "f32", [initialControl(scale).length]);
      for (const [step, gradient] of c.gradients.entries()) {
        gpu.write(parameter.trained!.grad, Float32Array.from(gradient, (g) => g * scale));
        optimizing.step(gpu, control, c.learning_rates[step]);
        const what = `${optimizer} decay ${weight_decay} clip ${max_grad_norm} step ${step}`;
        const weights = await gpu.readF32(parameter.value);
        assertClose(weights, c.weights[step], { atol: 1e-6, rtol: 1e-6, what });
        const norm = (await gpu.readF32(control))[CONTROL.gradNorm];
        assertClose([norm], [c.grad_norms[step]], { atol: 0, rtol: 1e-5, what: `${what} norm` });
      }
    }
  });
}
