/**
 * What a file of named tensors offers, whatever its format: safetensors (model/formats/safetensors.ts) or PyTorch's
 * own (model/formats/pth.ts).
 *
 * @module
 */

/** Bytes per element of every dtype that fills whole bytes, in safetensors' names. */
const DTYPE_BYTES: Record<string, number> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
};

/** Bytes of one number of a dtype in safetensors' names; undefined for names that are none. */
export function dtypeBytes(dtype: string): number | undefined {
  return Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined;
}

/** One tensor of a file. */
export interface TensorEntry {
  /** In safetensors' names, of which the models here use F32, F16 and BF16. */
  dtype: string;
  shape: number[];
  /** Its row-major, little-endian bytes are `end - begin`; where they begin is the format's own affair. */
  begin: number;
  end: number;
}

/** An open file of named tensors. */
export interface TensorFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** What it says of itself, where its format has a place for that. */
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Fills `target` with a tensor's row-major, little-endian bytes from its byte `begin` on. Several calls may
   * be under way at once.
   *
   * @throws UserError where the file can't be read, RangeError for bytes that the tensor doesn't have.
   */
  read(name: string, begin: number, target: Uint8Array): Promise<void>;
  /** The same without a promise. */
  readSync(name: string, begin: number, target: Uint8Array): void;
  close(): void;
}
