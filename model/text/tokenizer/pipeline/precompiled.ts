/**
 * SentencePiece's precompiled map of characters (`precompiled_charsmap`), as the Rust library
 * `spm_precompiled` applies it: grapheme by grapheme, short ones as a whole and otherwise by characters.
 *
 * @module
 */

/** Graphemes of so many bytes or more are only looked at character by character. */
const SHORT_GRAPHEME = 6;

/**
 * A double-array trie (darts-clone): a unit holds its label, whether its node has a value, and where its
 * children are.
 */
class DoubleArray {
  constructor(readonly units: Uint32Array) {}

  /** The value of the shortest prefix of `bytes` that the trie holds. */
  shortest(bytes: Uint8Array): number | undefined {
    const { units } = this;
    const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
    let at = offset(units[0]);
    for (const byte of bytes) {
      if (byte === 0) return undefined;
      at ^= byte;
      const unit = units[at];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
      at ^= offset(unit);
      if ((unit >>> 8) & 1) return units[at] & 0x7fffffff;
    }
    return undefined;
  }
}

/**
 * The map as a function.
 *
 * @param base64 Size of the trie in bytes (u32), the trie, then the texts, each with a NUL behind it.
 * @throws {RangeError} where the map is cut or none.
 */
export function precompiled(base64: string): (text: string) => string {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(base64);
  } catch {
    throw new RangeError("has a normalizer Precompiled whose map is not base64");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes.length >= 4 ? view.getUint32(0, true) : 0;
  if (size === 0 || size % 4 !== 0 || 4 + size > bytes.length) {
    throw new RangeError("has a normalizer Precompiled whose map of characters is cut or none");
  }
  const trie = new DoubleArray(
    Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true)),
  );
  const texts = bytes.subarray(4 + size);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const cache = new Map<string, string | undefined>();
  const lookUp = (part: string): string | undefined => {
    const start = trie.shortest(encoder.encode(part));
    if (start === undefined) return undefined;
    const end = texts.indexOf(0, start);
    return decoder.decode(texts.subarray(start, end < 0 ? texts.length : end));
  };
  const replacement = (part: string) => {
    if (!cache.has(part)) cache.set(part, lookUp(part));
    return cache.get(part);
  };
  const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
  return (text) => {
    let mapped = "";
    for (const { segment } of graphemes.segment(text)) {
      const short = encoder.encode(segment).length < SHORT_GRAPHEME;
      const whole = short ? replacement(segment) : undefined;
      if (whole !== undefined) mapped += whole;
      else for (const character of segment) mapped += replacement(character) ?? character;
    }
    return mapped;
  };
}
