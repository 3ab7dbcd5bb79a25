/** Values that programs on tensor cores take: loads of eight as packed halves, with tables in workgroup memory. */
import { programFamily } from "../../../../kernels/gpu/program.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import { assertSameValues } from "../../../same.ts";
import { gpu, gpuTest, poisoned, quantize, randomArray } from "../../harness.ts";
import { decoded, encoded, QUANTIZED } from "./encoded.ts";
import { KEPT, kept } from "./kept.ts";

/** Threads of a workgroup, each of which reads eight values. */
const THREADS = 32;

const halves = programFamily("halves_of_weights", ({ kind }: { kind: string }) => {
  const b = weightKind(kind), { type, count } = b.registers(8);
  const names = Array.from({ length: count }, (_, r) => `r${r}`);
  const loads = names.map((name, r) => `  let ${name}: ${type} = ${b.load("b", 8, "load", r)};`);
  return {
    bindings: [...b.bindings("b", 8), { name: "y", dtype: "u32", access: "write", words: 4 }],
    uniforms: {},
    extensions: ["f16"],
    body: `${b.functions("b", 8, true)}
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let load = group.x * ${THREADS}u + thread;
${loads.join("\n")}${b.setup?.("b", THREADS) ?? ""}
  y[load] = ${b.halves("b", names)};
}`,
  };
});

/** Why a kind can't be read so here; undefined where it can. */
function obstacle(name: string): string | undefined {
  if (gpu === undefined) return undefined;
  if (!gpu.extensions.has("f16")) return "no f16";
  // Deno's compiler of WGSL takes no bitcast to halves, nor does it have tensor cores.
  return name === "int8" && gpu.provider === "deno" ? "no bitcast to f16" : undefined;
}

for (const name of [...QUANTIZED, ...KEPT]) {
  const title = `${name}: eight values are read as halves`, ignored = obstacle(name);
  if (ignored !== undefined) {
    Deno.test({ name: `${title} (ignored: ${ignored})`, ignore: true, fn: () => {} });
    continue;
  }
  gpuTest(title, async (gpu) => {
    const shape = [12, 256] as const, own = KEPT.find((kept) => kept === name);
    const given = quantize(randomArray(shape[0] * shape[1], 5), "f32");
    const operand = own === undefined
      ? encoded(gpu, name, given, shape)
      : kept(gpu, own, shape).operand;
    const values = own === undefined ? await decoded(gpu, operand) : kept(gpu, own, shape).values;
    const y = poisoned(gpu, "u32", [values.length / 2]);
    gpu.run(halves({ kind: name }), [...operand.tensors, y], {}, [values.length / 8 / THREADS]);
    assertSameValues(new Float16Array(await gpu.read(y)), Float16Array.from(values), name);
  });
}
