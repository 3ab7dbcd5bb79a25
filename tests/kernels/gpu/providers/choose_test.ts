import assert from "node:assert/strict";
import { wgsl } from "../../../../kernels/gpu/program.ts";
import { chooseAdapter } from "../../../../kernels/gpu/providers/choose.ts";
import { dawnProvider } from "../../../../kernels/gpu/providers/dawn.ts";
import { denoProvider } from "../../../../kernels/gpu/providers/deno.ts";
import { Variables } from "../../../variables.ts";

/** The two variables that say which implementation is used, by default neither. */
const variables = (values: { LORIKEET_GPU?: string; DAWN_NODE?: string }) =>
  new Variables({ LORIKEET_GPU: undefined, DAWN_NODE: undefined, ...values });

const builtIn = await denoProvider.requestAdapter();
function builtInTest(name: string, fn: () => Promise<void>): void {
  const title = builtIn ? name : `${name} (ignored: no GPU adapter)`;
  Deno.test({ name: title, ignore: !builtIn, fn });
}

Deno.test("a Dawn that is not there, or no library, is reported in one sentence", async () => {
  using _none = variables({});
  await assert.rejects(chooseAdapter("dawn"), {
    name: "UserError",
    message: /^Dawn is not installed: .*--gpu dawn.*DAWN_NODE$/,
  });
  using _wrong = variables({ DAWN_NODE: "/nonexistent/dawn.node" });
  await assert.rejects(chooseAdapter("dawn"), {
    name: "UserError",
    message: /^Dawn can't be loaded from \/nonexistent\/dawn\.node: [^\n]+$/,
  });
});

builtInTest(
  "auto takes the built-in WebGPU where Dawn is missing, fails or is of no use",
  async () => {
    using _none = variables({});
    const { provider, reason } = await chooseAdapter("auto", "mixed");
    assert.equal(provider.name, "deno");
    assert.match(reason, /^built in/);
    using _wrong = variables({ DAWN_NODE: "/nonexistent/dawn.node" });
    const failing = await chooseAdapter("auto", "mixed");
    assert.equal(failing.provider.name, "deno");
    assert.match(failing.reason, /^built in; Dawn can't be loaded from \/nonexistent/);
    const useless = await chooseAdapter(undefined, "fp32");
    assert.deepEqual([useless.provider.name, useless.reason], ["deno", "built in"]);
  },
);

builtInTest("LORIKEET_GPU says what auto is, and a name wins over it", async () => {
  using _dawn = variables({ LORIKEET_GPU: "dawn" });
  await assert.rejects(chooseAdapter("auto", "fp32"), /^UserError: Dawn is not installed/);
  await assert.rejects(chooseAdapter(undefined), /^UserError: Dawn is not installed/);
  assert.equal((await chooseAdapter("deno")).provider.name, "deno");
  using _unknown = variables({ LORIKEET_GPU: "dwan" });
  await assert.rejects(chooseAdapter("auto"), {
    name: "UsageError",
    message: 'LORIKEET_GPU is "dwan"; expected auto, deno, dawn',
  });
});

Deno.test("each implementation gets the enable lines that it wants", () => {
  const source = {
    bindings: [],
    uniforms: {},
    extensions: ["f16", "subgroups", "subgroup_matrix"] as const,
    body: "@compute @workgroup_size(1) fn main() {}",
  };
  const lines = ({ dialect }: typeof denoProvider) =>
    wgsl(source, dialect).split("\n").slice(0, -1);
  assert.deepEqual(lines(denoProvider), ["enable f16;"]);
  assert.deepEqual(lines(dawnProvider), [
    "enable f16;",
    "enable subgroups;",
    "enable chromium_experimental_subgroup_matrix;",
  ]);
});
