/** Model folders whose weights are PyTorch's own files. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { weightShapes } from "../../../model/families/config.ts";
import { fromFloat32 } from "../../../model/formats/half.ts";
import { openHuggingFace } from "../../../model/formats/huggingface.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import { fixturePath, type FixtureTensor, readTensors } from "../../fixtures.ts";

let root = "";
Deno.test.beforeAll(() => {
  root = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(root, { recursive: true }));

/** A copy of a fixture's files, some left out. */
function copyOf(fixture: string, label: string, without: readonly string[] = []): string {
  const folder = join(root, label);
  Deno.mkdirSync(folder);
  for (const { name } of Deno.readDirSync(fixturePath(fixture))) {
    if (without.includes(name)) continue;
    Deno.copyFileSync(fixturePath(`${fixture}/${name}`), join(folder, name));
  }
  return folder;
}

const FAMILY = readTensors("family/model.safetensors");

/** The bytes of a weight of `family` in a dtype. */
function expectedBytes({ data }: FixtureTensor, dtype: FileDtype): Uint8Array {
  const bytes = new Uint8Array(data.length * (dtype === "F32" ? 4 : 2));
  fromFloat32(data, dtype, bytes);
  return bytes;
}

/** Reads every weight in two parts, and compares it with `family` rounded to the dtype. */
async function checkWeights(folder: string, dtype: FileDtype, names?: number): Promise<void> {
  const source = openHuggingFace(folder);
  try {
    const shapes = weightShapes(source.config);
    assert.equal(shapes.size, names ?? FAMILY.size);
    for (const [name, shape] of shapes) {
      const tensor = FAMILY.get(name);
      assert.ok(tensor !== undefined, name);
      const expected = expectedBytes(tensor, dtype);
      assert.deepEqual(source.info(name), { dtype, shape, bytes: expected.length });
      const read = new Uint8Array(expected.length), cut = 2 * Math.floor(expected.length / 5);
      await Promise.all([
        source.read(name, 0, read.subarray(0, cut)),
        source.read(name, cut, read.subarray(cut)),
      ]);
      assert.deepEqual(read, expected, name);
    }
  } finally {
    source.close();
  }
}

function refused(folder: string, message: RegExp): void {
  assert.throws(() => openHuggingFace(folder).close(), { name: "UserError", message });
}

Deno.test("pytorch_model.bin of a state_dict has the weights of the safetensors, buffers are ignored", async () => {
  await checkWeights(fixturePath("torch_bin"), "F32");
});

Deno.test("shards of .bin: tied, transposed, cut out of others, Parameters, in both formats", async () => {
  await checkWeights(fixturePath("torch_bin_sharded"), "BF16", FAMILY.size - 1);
});

Deno.test("safetensors are read where both are there, as transformers does", async () => {
  const folder = copyOf("torch_bin_sharded", "both");
  for (const file of ["config.json", "model.safetensors"]) {
    Deno.copyFileSync(fixturePath(`family/${file}`), join(folder, file));
  }
  await checkWeights(folder, "F32");
});

Deno.test("a cut model needs the shards of its blocks only", () => {
  const second = "pytorch_model-00002-of-00002.bin";
  const folder = copyOf("torch_bin_sharded", "cut", [second]);
  openHuggingFace(folder, { layers: 1 }).close();
  refused(
    folder,
    /cannot read .*pytorch_model-00002-of-00002\.bin: it does not exist, as 1 of the 2 files that pytorch_model\.bin\.index\.json names do not$/,
  );
});

Deno.test("an index of .bin files names files beside it, of its own kind", () => {
  for (const [i, file] of ["../x.bin", "a/b.bin", "x.safetensors", ".bin", "x.pth"].entries()) {
    const folder = copyOf("torch_bin_sharded", `index${i}`);
    const path = join(folder, "pytorch_model.bin.index.json");
    const index = JSON.parse(Deno.readTextFileSync(path));
    index.weight_map["model.norm.weight"] = file;
    Deno.writeTextFileSync(path, JSON.stringify(index));
    refused(folder, /is said to be in .*, expected the name of a \.bin file beside the index$/);
  }
});

Deno.test("a .bin file whose tensors are not the model's is refused by the tensor's name", () => {
  const folder = copyOf("torch_bin", "shape");
  const path = join(folder, "config.json");
  const config = JSON.parse(Deno.readTextFileSync(path));
  Deno.writeTextFileSync(path, JSON.stringify({ ...config, vocab_size: 60 }));
  refused(
    folder,
    /pytorch_model\.bin: tensor "model\.embed_tokens\.weight" has shape \[61,32\], but/,
  );
  Deno.copyFileSync(fixturePath("torch_odd/strided.bin"), join(folder, "pytorch_model.bin"));
  refused(folder, /pytorch_model\.bin: tensor "model\.embed_tokens\.weight" is missing$/);
});
