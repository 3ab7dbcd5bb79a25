import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { openGpu } from "../../../../kernels/gpu/gpu.ts";
import { programFamily } from "../../../../kernels/gpu/program.ts";
import { chooseAdapter } from "../../../../kernels/gpu/providers/choose.ts";

/** Dawn's adapter, or why there is none. */
const dawn = Deno.env.get("DAWN_NODE") === undefined
  ? "DAWN_NODE is not set"
  : await chooseAdapter("dawn").catch((error) => {
    if (error instanceof UserError) return error.message;
    throw error;
  });

Deno.test({
  name: "Dawn runs f16 and subgroup programs and reads back what they wrote" +
    (typeof dawn === "string" ? ` (ignored: ${dawn})` : ""),
  ignore: typeof dawn === "string",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const gpu = await openGpu({ provider: "dawn" });
    assert.equal(gpu.provider, "dawn");
    assert.match(gpu.reason, /^(no )?tensor cores$/);
    assert.equal(gpu.matrices === "tensor_cores", gpu.reason === "tensor cores");
    assert.equal(gpu.matrices !== undefined, gpu.extensions.has("subgroup_matrix"));
    if (!gpu.extensions.has("f16") || !gpu.extensions.has("subgroups")) return gpu.close();
    const sum = programFamily("sum", () => ({
      bindings: [{ name: "x", dtype: "f32", access: "write", scalar: true }],
      uniforms: { factor: "f32" },
      extensions: ["f16", "subgroups"],
      body: `@compute @workgroup_size(4)
fn main(@builtin(local_invocation_index) i: u32) {
  x[i] = subgroupAdd(f32(f16(x[i]) * f16(u.factor)));
}`,
    }));
    const x = gpu.memory.tensor("workspace", "x", "f32", [4]);
    for (let i = 1; i <= 3; i++) {
      gpu.write(x, Float32Array.of(1, 2, 3, 4));
      gpu.run(sum({}), [x], { factor: i }, [1]);
      assert.deepEqual([...await gpu.readF32(x)], Array(4).fill(10 * i));
    }
    gpu.close();
  },
});
