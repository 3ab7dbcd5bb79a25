import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { openSafetensors } from "../../../model/formats/safetensors.ts";
import { openTorchFile } from "../../../model/formats/pth.ts";
import { readJson, readJsonToWrite } from "../../../model/files/json_file.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { findChatTemplate } from "../../../model/text/templates/chat_template.ts";
import { stopTokens } from "../../../model/text/tokenizer/stop_tokens.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { fixturePath } from "../../fixtures.ts";
import { ascii, concat } from "../formats/pth_writer.ts";

let folder = "";
Deno.test.beforeAll(() => {
  folder = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** Every reader of a file, with a name that the file may have. */
const READERS: Record<string, (path: string) => unknown> = {
  "config.json": readJson,
  "model.safetensors": (path) => openSafetensors(path).close(),
  "pytorch_model.bin": (path) => openTorchFile(path).close(),
  "tokenizer.model": loadTokenizer,
  "tokenizer.json": loadTokenizer,
};

/** Expects every reader to refuse a file of these bytes, naming it. */
async function refusedByAll(bytes: Uint8Array, problem: RegExp): Promise<void> {
  for (const [name, read] of Object.entries(READERS)) {
    const path = join(folder, name);
    Deno.writeFileSync(path, bytes);
    await assert.rejects(async () => await read(path), (error: unknown) => {
      assert.ok(error instanceof UserError, String(error));
      assert.ok(error.message.startsWith(`${path}: `), error.message);
      assert.match(error.message.slice(path.length + 2), problem, name);
      return true;
    });
  }
}

const OID = "4ddcb5cd9ed5a0b1a6b2a7d8b0b9a6c2f9f3e7d0c1a2b3c4d5e6f708192a3b4c";

Deno.test("a pointer of Git LFS is named in place of every file, with what brings the file", async () => {
  const pointer =
    `version https://git-lfs.github.com/spec/v1\noid sha256:${OID}\nsize 9976578928\n`;
  const problem =
    /^is a Git LFS pointer, not the file itself of 9976578928 bytes; "git lfs pull" in its folder brings it$/;
  await refusedByAll(ascii(pointer), problem);
  await refusedByAll(ascii(pointer.replaceAll("\n", "\r\n")), problem);
  await refusedByAll(
    ascii(pointer.replace("git-lfs", "hawser").split("size")[0]),
    /^is a Git LFS pointer, not the file itself; "git lfs pull"/,
  );
});

/** Copies a fixture's files into a folder, under names of their own where they are given. */
function gather(target: string, files: Record<string, string>): void {
  Deno.mkdirSync(target);
  for (const [name, from] of Object.entries(files)) {
    const text = from.startsWith("{");
    if (text) Deno.writeTextFileSync(join(target, name), from);
    else Deno.copyFileSync(fixturePath(from), join(target, name));
  }
}

Deno.test("a pointer of Git LFS in place of any file of a model, a tokenizer or an adapter", async () => {
  const model = {
    "config.json": "torch_bin_sharded/config.json",
    "pytorch_model.bin.index.json": "torch_bin_sharded/pytorch_model.bin.index.json",
    "pytorch_model-00001-of-00002.bin": "torch_bin_sharded/pytorch_model-00001-of-00002.bin",
    "pytorch_model-00002-of-00002.bin": "torch_bin_sharded/pytorch_model-00002-of-00002.bin",
  };
  const single = {
    "config.json": model["config.json"],
    "model.safetensors": "family/model.safetensors",
  };
  const tokenizer = {
    "tokenizer.model": "tiny_tokenizer.model",
    "config.json": '{"model_type": "llama"}',
    "tokenizer_config.json": '{"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}',
    "special_tokens_map.json": "{}",
    "added_tokens.json": "{}",
    "generation_config.json": "{}",
    "chat_template.jinja": "{{ 1 }}",
  };
  const adapter = {
    "adapter_config.json": "adapter_qv/adapter_config.json",
    "adapter_model.safetensors": "adapter_qv/adapter_model.safetensors",
  };
  const meta = {
    "params.json": "meta/params.json",
    "consolidated.00.pth": "meta/consolidated.00.pth",
  };
  const open = (path: string) => openModel(path).weights?.close();
  const kinds: [files: Record<string, string>, read: (folder: string) => unknown][] = [
    [model, open],
    [single, open],
    [meta, open],
    [adapter, readAdapter],
    [tokenizer, async (path) => {
      const loaded = await loadTokenizer(path);
      stopTokens(presetConfig("tiny"), loaded, path);
      findChatTemplate(path);
    }],
  ];
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${OID}\nsize 5\n`;
  for (const [i, [files, read]] of kinds.entries()) {
    const target = join(folder, `kind${i}`);
    gather(target, files);
    await read(target); // whole, it is read
    for (const name of Object.keys(files)) {
      const path = join(target, name), whole = Deno.readFileSync(path);
      Deno.writeTextFileSync(path, pointer);
      const message = `${path}: is a Git LFS pointer, not the file itself of 5 bytes; ` +
        '"git lfs pull" in its folder brings it';
      await assert.rejects(async () => await read(target), { name: "UserError", message }, name);
      Deno.writeFileSync(path, whole);
    }
  }
});

Deno.test("a link to nothing is named in place of every file", async () => {
  for (const [name, read] of Object.entries(READERS)) {
    const path = join(folder, name);
    Deno.removeSync(path);
    Deno.symlinkSync("../../blobs/0123", path);
    const message = `cannot read ${path}: it is a link to ../../blobs/0123, which does not exist`;
    const loads = name.startsWith("tokenizer")
      ? { name: "UserError" }
      : { name: "UserError", message };
    await assert.rejects(async () => await read(path), loads);
    Deno.removeSync(path);
  }
});

Deno.test("a page of HTML and an empty file are named in place of every file", async () => {
  const problem = /^is an HTML page, not the file itself; expected the raw file, as "hf download"/;
  await refusedByAll(ascii("<!doctype html>\n<html class=''>\n<head>"), problem);
  await refusedByAll(ascii("\ufeff\n <HTML lang=en>"), problem);
  await refusedByAll(new Uint8Array(0), /^is empty, as a download that was interrupted leaves it$/);
});

Deno.test("other formats and a server's answers are named in place of tensors", () => {
  const refused = (name: string, bytes: Uint8Array, problem: RegExp) => {
    const path = join(folder, name);
    Deno.writeFileSync(path, bytes);
    assert.throws(() => READERS[name](path), { name: "UserError", message: problem });
  };
  const padded = (start: string) => concat(ascii(start), new Uint8Array(100).fill(200));
  const safetensors = /model\.safetensors: is no safetensors file: it is /;
  const cases: [string, RegExp][] = [
    ["PK\x03\x04", /a zip archive, as PyTorch writes \.bin and \.pth files$/],
    ["GGUF", /a GGUF file$/],
  ];
  for (const [start, kind] of cases) {
    const problem = new RegExp(safetensors.source + kind.source);
    refused("model.safetensors", padded(start), problem);
  }
  refused(
    "model.safetensors",
    ascii("Access to this model is restricted."),
    new RegExp(`${safetensors.source}the text "Access to this model is restricted\\."$`),
  );
  const header = ascii(JSON.stringify({ w: { dtype: "F32", shape: [1], data_offsets: [0, 4] } }));
  const other = concat([header.length, 0, 0, 0, 0, 0, 0, 0], header, new Uint8Array(4));
  refused("pytorch_model.bin", other, /is no whole zip archive, .*: it is a safetensors file$/);
  refused("pytorch_model.bin", padded("PK\x03\x04"), /is truncated: it begins as a zip archive/);
});

Deno.test("JSON with a byte order mark is read, UTF-16 and damaged UTF-8 are refused", () => {
  const path = join(folder, "bom.json");
  Deno.writeTextFileSync(path, '\ufeff{"a": "\ufeffé"}');
  assert.deepEqual(readJson(path), { a: "\ufeffé" });
  const units = (text: string) =>
    new Uint8Array(Uint16Array.from(text, (c) => c.charCodeAt(0)).buffer);
  const big = units('\ufeff{"a": 1}');
  for (let i = 0; i < big.length; i += 2) [big[i], big[i + 1]] = [big[i + 1], big[i]];
  for (const bytes of [units('\ufeff{"a": 1}'), units('{"a": 1}'), big, big.subarray(2)]) {
    Deno.writeFileSync(path, bytes);
    assert.throws(() => readJson(path), {
      message: `${path}: is in UTF-16, expected UTF-8: save it in that encoding`,
    });
  }
  Deno.writeFileSync(path, concat(ascii('{"a": "'), [0xe9], ascii('"}')));
  assert.throws(() => readJson(path), { message: `${path}: is not valid UTF-8` });
});

Deno.test("numbers of JSON that is written again keep their spelling", () => {
  const path = join(folder, "numbers.json");
  const text =
    '{"max":1000000000000000019884624838656,"theta":10000.0,"eps":1e-05,"n":[2,-0.5,1E400]}';
  Deno.writeTextFileSync(path, text);
  assert.equal(JSON.stringify(readJsonToWrite(path)), text);
  assert.deepEqual((readJson(path) as { theta: number }).theta, 10000);
});
