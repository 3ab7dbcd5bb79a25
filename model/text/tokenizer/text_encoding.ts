/**
 * A text with what a tokenizer puts around it.
 *
 * @module
 */

/** What a text is encoded with. */
interface Encoding {
  bos_id: number | undefined;
  eos_id: number;
  /** Ids before and after every text. */
  prefix: readonly number[];
  suffix: readonly number[];
  encodeSpecial(text: string): number[];
}

/**
 * Makes `Tokenizer.encodeText`. A BOS that the text begins with takes the place of the one that would be
 * put before it, and an EOS that it ends with of the one after it.
 */
export function textEncoder(
  { bos_id, eos_id, prefix, suffix, encodeSpecial }: Encoding,
): (text: string) => number[] {
  return (text) => {
    const ids = encodeSpecial(text);
    const doubledBos = bos_id !== undefined && prefix.at(-1) === bos_id && ids[0] === bos_id;
    const before = doubledBos ? prefix.slice(0, -1) : prefix;
    const doubledEos = suffix[0] === eos_id && ids.at(-1) === eos_id;
    return [...before, ...ids, ...(doubledEos ? suffix.slice(1) : suffix)];
  };
}
