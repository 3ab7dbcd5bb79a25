/** Optimizer steps on small vectors against torch.optim, and the rates of LoRA+ against PEFT. */
import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { GRAD_SCALER, initialGradScaler } from "../../kernels/ops/optimizer/loss_scale.ts";
import {
  isTrainedParameter,
  Parameter,
  type TrainedParameter,
} from "../../model/transformer/parameters.ts";
import { operandOf } from "../../kernels/ops/weights/operand.ts";
import { loraPlusRate } from "../../train/lora_plus.ts";
import { Optimizer } from "../../train/optimizer.ts";
import { type OptimizerCase, readFixture, readTensors } from "../fixtures.ts";
import { assertClose, gpuTest, upload } from "../kernels/harness.ts";
import { assertSameValues } from "../same.ts";

/** A fixture's vector as a trained parameter; as a matrix, since only matrices are decayed. */
function parameterOf(gpu: Gpu, { start }: OptimizerCase): TrainedParameter {
  const shape = [1, start.length];
  const master = upload(gpu, start, "f32", shape);
  const grad = upload(gpu, start.map(() => 0), "f32", shape);
  const parameter = new Parameter("vector", shape, operandOf(master), { master, grad });
  return [parameter].filter(isTrainedParameter)[0];
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
      const gradScaler = upload(gpu, initialGradScaler(scale), "f32", [
        initialGradScaler(scale).length,
      ]);
      for (const [step, gradient] of c.gradients.entries()) {
        gpu.write(parameter.trained!.grad, Float32Array.from(gradient, (g) => g * scale));
        optimizing.step(gpu, gradScaler, c.learning_rates[step]);
        const what = `${optimizer} decay ${weight_decay} clip ${max_grad_norm} step ${step}`;
        const weights = await gpu.readF32(parameter.value);
        assertClose(weights, c.weights[step], { atol: 1e-6, rtol: 1e-6, what });
        const norm = (await gpu.readF32(gradScaler))[GRAD_SCALER.gradNorm];
        assertClose([norm], [c.grad_norms[step]], { atol: 0, rtol: 1e-5, what: `${what} norm` });
      }
    }
  });
}

Deno.test("LoRA+ gives every tensor of an adapter PEFT's rate", () => {
  for (const { name, training } of readFixture("peft.json")) {
    const { learning_rate: learningRate, plus_ratio: ratio, plus_rates: rates } = training;
    const tensors = readTensors(`peft/${name}/adapter_model.safetensors`);
    for (const [tensor, expected] of Object.entries(rates)) {
      const parameter = { name: tensor, shape: tensors.get(tensor)!.shape };
      const rate = loraPlusRate(parameter, { ratio, learningRate });
      assert.equal(rate, expected ?? 1e-6 / learningRate, `${name} ${tensor}`);
    }
  }
  const embedding = {
    name: "base_model.model.model.embed_tokens.lora_embedding_A",
    shape: [3, 61],
  };
  assert.equal(loraPlusRate(embedding, { ratio: 8, learningRate: 0 }), 0);
});

gpuTest("parameters side by side are updated at rates of their own", async (gpu) => {
  // Clipping would see all three.
  const c = readFixture("optimizers.json")
    .find(({ optimizer, max_grad_norm }) => optimizer === "adamw" && max_grad_norm === 0)!;
  const { betas, eps, weight_decay, max_grad_norm, start, gradients, learning_rates } = c;
  const settings = { optimizer: c.optimizer, betas, eps, weight_decay, max_grad_norm };
  const names = ["A", "B", "C"], size = 16, n = start.length;
  const arena = (category: "parameter" | "gradient") =>
    gpu.memory.arena(
      category,
      "side by side",
      names.map((name) => ({ name, dtype: "f32", shape: [1, size] })),
    );
  const [masters, grads] = [arena("parameter"), arena("gradient")];
  const padded = (values: readonly number[]) =>
    Float32Array.from({ length: size }, (_, i) => values[i] ?? 0);
  const parameters = names.map((name, i) => {
    gpu.write(masters[i], padded(start));
    const trained = { master: masters[i], grad: grads[i] };
    return new Parameter(name, [1, n], operandOf(masters[i]), trained);
  }).filter(isTrainedParameter);
  const [gradScaler, other] = [1, 2].map(() =>
    upload(gpu, initialGradScaler(1), "f32", [initialGradScaler(1).length])
  );
  const rateOf = ({ name }: Parameter) => name === "B" ? 4 : 1;
  const together = new Optimizer(
    gpu.memory,
    parameters,
    { ...settings, precision: "fp32" },
    gpu.maxBinding,
    rateOf,
  );
  const alone = parameterOf(gpu, c);
  const separate = new Optimizer(
    gpu.memory,
    [alone],
    { ...settings, precision: "fp32" },
    gpu.maxBinding,
  );
  for (const [step, gradient] of gradients.entries()) {
    for (const grad of grads) gpu.write(grad, padded(gradient));
    // The fixture's rates for B; its weights are the fixture's only there.
    together.step(gpu, gradScaler, learning_rates[step] / 4);
    const [a, b, last] = [
      await gpu.readF32(masters[0]),
      await gpu.readF32(masters[1]),
      await gpu.readF32(masters[2]),
    ];
    assertClose(b.subarray(0, n), c.weights[step], {
      atol: 1e-6,
      rtol: 1e-6,
      what: `step ${step}`,
    });
    assertSameValues(a, last, `step ${step}`);
    gpu.write(alone.trained.grad, Float32Array.from(gradient));
    separate.step(gpu, other, learning_rates[step] / 4);
    assertSameValues(a.subarray(0, n), await gpu.readF32(alone.value), `step ${step}`);
  }
  for (const [tensor] of [masters, grads]) gpu.free(tensor);
});
