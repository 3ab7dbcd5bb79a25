/**
 * The WGSL of representative programs, compared with that in tests/fixtures/wgsl, so that a change of a snippet which
 * programs share is reviewed as the WGSL that it makes. No device is needed.
 *
 * After a change that is wanted, write the files anew and look at what git says of them:
 *
 *     LORIKEET_UPDATE_GOLDEN=1 ./lorikeet test tests/kernels/golden_test.ts
 *
 * A program is named by its key, as `--profile` prints it. To add one, add its key below.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Program, programFamilies, type Variant, wgsl } from "../../kernels/gpu/program.ts";
import { dawnProvider } from "../../kernels/gpu/providers/dawn.ts";
import { denoProvider } from "../../kernels/gpu/providers/deno.ts";
import { environment } from "../../kernels/gpu/providers/environment.ts";
import { ROOT } from "../../scripts/compile.ts";
import { sources } from "../sources.ts";

const FOLDER = join(ROOT, "tests/fixtures/wgsl");

/** Keys of programs by the name of their file. */
const PROGRAMS: Record<string, string> = {
  attention:
    "attention(dtype=f32,kv=f32,out=f32,withLse=true,excludes=true,softcap=false,shape=32x32,headDim=128,chunk=16,stage=f32,f16Sums=false,unroll=true)",
  attention_f16:
    "attention(dtype=f16,kv=f16,out=f16,withLse=true,excludes=false,softcap=false,shape=32x32,headDim=128,chunk=16,stage=f16,f16Sums=true,unroll=true)",
  attention_backward:
    "attention_backward(dtype=f32,rotated=halves,excludes=true,packed=false,softcap=false,shape=32x32,headDim=128,chunk=8,stage=f32,f16Sums=false,unroll=true)",
  attention_backward_f16:
    "attention_backward(dtype=f16,rotated=halves,excludes=false,packed=false,softcap=false,shape=32x32_256,headDim=128,chunk=16,stage=f16,f16Sums=true,unroll=true)",
  attention_backward_matrices:
    "attention_backward_matrices(rotated=halves,excludes=true,packed=false,softcap=false,matrices=tensor_cores,headDim=128)",
  attention_backward_matrices_softcap:
    "attention_backward_matrices(rotated=none,excludes=false,packed=false,softcap=true,matrices=tensor_cores,headDim=64)",
  attention_decode_f16:
    "attention_decode(q=f32,kv=f16,headDim=128,heads=1,threads=256,keyLoads=8,subgroup=32,softcap=false,pairs=halves,packed=false,out=f32)",
  attention_decode_heads:
    "attention_decode(q=f32,kv=f16,headDim=128,heads=4,threads=256,keyLoads=8,subgroup=32,softcap=false,pairs=halves,packed=false,out=f32)",
  attention_decode:
    "attention_decode(q=f32,kv=f32,headDim=128,heads=1,threads=256,keyLoads=8,subgroup=0,softcap=false,pairs=halves,packed=false,out=f32)",
  attention_decode_combine: "attention_decode_combine(out=f32,headDim=128)",
  attention_matrices:
    "attention_matrices(dtype=f16,out=f16,withLse=true,excludes=false,softcap=false,matrices=tensor_cores,headDim=128)",
  attention_matrices_softcap:
    "attention_matrices(dtype=f32,out=f32,withLse=false,excludes=true,softcap=true,matrices=tensor_cores,headDim=64)",
  attention_statistics: "attention_statistics(headDim=128)",
  attention_unstaged:
    "attention_unstaged(dtype=f16,kv=f16,headDim=16,withLse=true,excludes=true,softcap=false)",
  attention_backward_packed:
    "attention_backward(dtype=f32,rotated=halves,excludes=true,packed=true,softcap=false,shape=32x32,headDim=64,chunk=4,stage=f32,f16Sums=false,unroll=true)",
  attention_pack_rows: "attention_pack_rows(fields=starts+ends+query_ends+excluded_keys+positions)",
  attention_unstaged_key:
    "attention_unstaged_key(dtype=f16,rotated=halves,excludes=false,packed=false,softcap=false,headDim=16)",
  attention_unstaged_query:
    "attention_unstaged_query(dtype=f32,rotated=halves,excludes=false,packed=false,softcap=false,headDim=16)",
  rope: "rope(x=f16,pairs=halves,whole=true,back=false)",
  rope_elements: "rope_elements(x=f16,back=false)",
  rope_neighbours_back: "rope(x=f32,pairs=neighbours,whole=true,back=true)",
  rope_part: "rope(x=f16,pairs=halves,whole=false,back=false)",
  table_rows: "table_rows",
  rope_append: "rope_append(qkv=f32,cache=f16,pairs=halves)",
  adamw: "adamw(value=f16)",
  add_split_k_norm:
    "add_split_k(inPlace=true,w=f16,offset=0,n=f16,rstd=true,threads=512,perThread=2)",
  add_split_k_software:
    "add_split_k(inPlace=false,w=none,offset=0,n=f32,rstd=false,threads=8,perThread=0)",
  bias_backward: "bias_backward(dy=f16,lanes=16)",
  cast_bf16: "cast_bytes(raw=BF16,y=f16)",
  copy: "copy(x=f32,y=f32)",
  cross_entropy_backward: "cross_entropy(backward=true,softcap=false,threads=1024,ahead=4)",
  cross_entropy_softcap: "cross_entropy(backward=true,softcap=true,threads=8,ahead=1)",
  dora_embedding_factors: "dora_embedding_factors(table=f16,lanes=16)",
  dora_factors: "dora_factors(w=f16,threads=256,rows=8)",
  dropout_copy: "dropout_copy(x=f16,y=f16,output=kept)",
  embedding: "embedding(table=f16)",
  embedding_backward: "embedding_backward",
  embedding_lora: "embedding_lora",
  fill_normal: "fill_normal(y=f16)",
  grad_norm: "sum_of_squares",
  indexed_rows: "indexed_rows(direction=gather)",
  lora_backward_a:
    "lora_backward_a(x=f16,a=f32,dx=f32,withGradA=true,accumulate=false,modules=2,drop=true,tileKind=large_m)",
  lora_backward_b:
    "lora_backward_b(dy=f16,b=f32,withLoraHiddenGrad=true,withGradB=true,modules=2,tileKind=small_m)",
  lora_down: "lora_down(x=f16,a=f32,modules=2,drop=true,tileKind=large_m)",
  lora_backward_a_matrices:
    "lora_backward_a_matrices(a=f32,dx=f32,withGradA=true,accumulate=false,modules=2,drop=true,matrices=tensor_cores,subgroups=8,ranks=16,ahead=2,gradColumns=64,gradDepth=128,upRows=64,upColumns=128)",
  lora_backward_b_matrices:
    "lora_backward_b_matrices(b=f32,withLoraHiddenGrad=true,withGradB=true,modules=2,matrices=tensor_cores,subgroups=8,ranks=16,ahead=2,downRows=32,downDepth=256,gradColumns=64,gradDepth=128)",
  lora_down_matrices:
    "lora_down_matrices(a=f32,modules=2,drop=true,matrices=tensor_cores,subgroups=8,ranks=16,ahead=2,downRows=32,downDepth=256)",
  lora_up: "lora_up(b=f32,y=f16,modules=2,tileKind=large_m)",
  loss_scale: "update_grad_scaler",
  matmul_subgroup_nt:
    "matmul_subgroup(matrices=tensor_cores,orientation=nt,a=f16,b=f16,c=f32,accumulate=false,ragged=false,sharedScales=false,blockM=128,blockN=128,blockK=64,subgroupsM=2,subgroupsN=2)",
  matmul_subgroup_updated:
    "matmul_subgroup_updated(matrices=tensor_cores,orientation=nt,a=f16,b=f16,c=f16,accumulate=false,ragged=false,sharedScales=false,blockM=128,blockN=128,blockK=64,subgroupsM=2,subgroupsN=2,updates=2,up=f32)",
  matmul_subgroup_nn_nf4:
    "matmul_subgroup(matrices=tensor_cores,orientation=nn,a=f16,b=nf4,c=f16,accumulate=false,ragged=false,sharedScales=false,blockM=64,blockN=128,blockK=64,subgroupsM=2,subgroupsN=2)",
  matmul_subgroup_nt_int8:
    "matmul_subgroup(matrices=tensor_cores,orientation=nt,a=f16,b=int8,c=f16,accumulate=false,ragged=false,sharedScales=false,blockM=64,blockN=128,blockK=64,subgroupsM=2,subgroupsN=2)",
  matmul_tiled_nn:
    "matmul(orientation=nn,a=f32,b=f16,c=f32,accumulate=false,operands=f16,blockM=64,blockN=128,blockK=32,threadM=8,threadN=8)",
  matmul_tiled_nt:
    "matmul(orientation=nt,a=f16,b=f16,c=f16,accumulate=false,operands=f32,blockM=128,blockN=128,blockK=32,threadM=8,threadN=8)",
  matmul_unstaged:
    "matmul_unstaged(orientation=nn,a=f16,b=f16,c=f32,accumulate=false,blockM=8,blockN=64,threadM=8,threadN=8)",
  matvec_int8:
    "matvec(a=f32,b=int8,c=f32,norm=none,normOffset=0,operands=f32,activation=none,accumulate=true,rows=1,vectors=256,groups=1024,compact=true,kvSplits=4,headDim=128,whole=true,threads=256,steps=1,outputs=4,wide=16,grid=528,ahead=false,subgroup=4)",
  matvec_nf4:
    "matvec(a=f32,b=nf4,c=f32,norm=f16,normOffset=0,operands=f16,activation=none,accumulate=false,rows=1,vectors=256,groups=3072,compact=true,kvSplits=0,headDim=0,whole=true,threads=128,steps=2,outputs=4,wide=16,grid=528,ahead=false,subgroup=4)",
  matvec_norm_grid:
    "matvec(a=f32,b=f16,c=f32,norm=f16,normOffset=0,operands=f16,activation=none,accumulate=false,rows=1,vectors=512,groups=3072,compact=true,kvSplits=0,headDim=0,whole=true,threads=128,steps=4,outputs=2,wide=8,grid=528,ahead=true,subgroup=4)",
  matvec_swiglu:
    "matvec(a=f32,b=f16,c=f16,norm=f16,normOffset=0,operands=f16,activation=silu,accumulate=false,rows=1,vectors=512,groups=5504,compact=true,kvSplits=0,headDim=0,whole=true,threads=256,steps=2,outputs=4,wide=8,grid=264,ahead=true,subgroup=4)",
  int8_encode: "int8_encode(from=F16)",
  nf4_encode: "nf4_encode(from=BF16)",
  rmsnorm: "rmsnorm(w=f16,offset=0,y=f16,rstd=true,threads=512,perThread=2)",
  rmsnorm_backward:
    "rmsnorm_backward(source=split_k,w=f16,offset=0,rounded=true,threads=512,perThread=2)",
  rmsnorm_offset: "rmsnorm(w=f16,offset=1,y=f16,rstd=false,threads=32,perThread=1)",
  sample: "sample(greedy=false,topK=true,topP=true,minP=true,penalty=true,mask=false,threads=256)",
  sample_greedy:
    "sample(greedy=true,topK=false,topP=false,minP=false,penalty=false,mask=false,threads=1024)",
  sum_split_k: "sum_split_k(c=f16,accumulate=false)",
  swiglu: "swiglu(activation=silu,act=f16,y=f16)",
  swiglu_backward: "swiglu_backward(activation=silu,dy=f32,act=f32)",
  swiglu_backward_gelu: "swiglu_backward(activation=gelu_pytorch_tanh,dy=f32,act=f32)",
  top_tokens: "top_tokens",
};

/** Programs whose WGSL differs from one implementation of WebGPU to another are kept in the dialects of both. */
const PROVIDERS = [denoProvider, dawnProvider];

for (const path of sources(join(ROOT, "kernels/ops"))) await import(`file://${path}`);

/** The value of an entry of a key. */
function valueOf(text: string): string | number | boolean {
  if (text === "true" || text === "false") return text === "true";
  return /^\d+$/.test(text) ? Number(text) : text;
}

/** The program of a key. */
function programOf(key: string): Program {
  const [, name, entries = ""] = /^(\w+)(?:\((.*)\))?$/.exec(key) ?? [];
  const family = programFamilies().get(name);
  assert.ok(family !== undefined, `there is no program ${name}`);
  const variant: Variant = Object.fromEntries(
    entries.split(",").filter(Boolean).map((entry) => {
      const [field, value] = entry.split("=");
      return [field, valueOf(value)];
    }),
  );
  const program = family(variant);
  assert.equal(program.key, key);
  return program;
}

/** Contents of the files of a program, by name. */
function filesOf(name: string, key: string): [string, string][] {
  const program = programOf(key);
  const texts = PROVIDERS.map(({ dialect }) => `// ${key}\n${wgsl(program, dialect).trimEnd()}\n`);
  // A key without an entry that its program has makes WGSL of nothing.
  for (const text of texts) assert.ok(!text.includes("undefined"), `${key} lacks an entry`);
  if (new Set(texts).size === 1) return [[`${name}.wgsl`, texts[0]]];
  return PROVIDERS.map((provider, i) => [`${name}.${provider.name}.wgsl`, texts[i]]);
}

const isUpdate = environment("LORIKEET_UPDATE_GOLDEN") !== undefined;
const expected = Object.entries(PROGRAMS).flatMap(([name, key]) => filesOf(name, key));

if (isUpdate) {
  Deno.mkdirSync(FOLDER, { recursive: true });
  for (const { name } of Deno.readDirSync(FOLDER)) Deno.removeSync(join(FOLDER, name));
  for (const [name, text] of expected) Deno.writeTextFileSync(join(FOLDER, name), text);
}

Deno.test("golden WGSL: the folder has the files of these programs and no others", () => {
  const names = [...Deno.readDirSync(FOLDER)].map(({ name }) => name);
  assert.deepEqual(names.sort(), expected.map(([name]) => name).sort());
});

for (const [name, text] of expected) {
  Deno.test(`golden WGSL: ${name} is what its program makes`, () => {
    assert.equal(text, Deno.readTextFileSync(join(FOLDER, name)));
  });
}
