/** Folders with a tokenizer.json made of the tiny SentencePiece model. */
import { join } from "node:path";
import { fixturePath } from "../../../fixtures.ts";
import { writeTokenizer } from "./tokenizer_files.ts";

/** The tiny SentencePiece model. */
export const tiny = fixturePath("tiny_tokenizer.model");
/** The folder of all that a test file writes; it is gone at the end. */
export const root = Deno.makeTempDirSync();
globalThis.addEventListener("unload", () => Deno.removeSync(root, { recursive: true }));
let folders = 0;

/** A new folder with the files. */
export function write(json: unknown, files?: Record<string, unknown>): string {
  return writeTokenizer(join(root, `${folders++}`), json, files);
}

/** The file beside it that names BOS and EOS. */
export const SETTINGS = {
  "tokenizer_config.json": { bos_token: "<s>", eos_token: { content: "</s>" } },
};
