/** The tensors of a safetensors file as bytes, to be changed and written again. @module */
import { openSafetensors } from "../../../../model/formats/safetensors.ts";
import { ascii, concat, little } from "../pth_writer.ts";

/** A tensor with its bytes. */
export interface StoredTensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

/** All tensors of a file. */
export function readTensors(path: string): Map<string, StoredTensor> {
  const file = openSafetensors(path);
  try {
    return new Map(Array.from(file.tensors, ([name, { dtype, shape, begin, end }]) => {
      const bytes = new Uint8Array(end - begin);
      file.readSync(name, 0, bytes);
      return [name, { dtype, shape, bytes }];
    }));
  } finally {
    file.close();
  }
}

/** A safetensors file of these tensors. */
export function tensorsBytes(
  tensors: ReadonlyMap<string, StoredTensor>,
): Uint8Array<ArrayBuffer> {
  const parts = [...tensors.values()].map(({ bytes }) => bytes);
  let end = 0;
  const header = Array.from(tensors, ([name, { dtype, shape, bytes }]) => {
    return [name, { dtype, shape, data_offsets: [end, end += bytes.length] }];
  });
  const json = ascii(JSON.stringify(Object.fromEntries(header)));
  return concat(little(json.length, 8), json, ...parts);
}

/** Text as the bytes of a tensor. */
export function textTensor(text: string): StoredTensor {
  const bytes = new TextEncoder().encode(text);
  return { dtype: "U8", shape: [bytes.length], bytes };
}

/** Numbers as a tensor of f32. */
export function floatTensor(values: readonly number[], shape = [values.length]): StoredTensor {
  return { dtype: "F32", shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}
