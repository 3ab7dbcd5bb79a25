/**
 * Classes of characters as the Rust library `tokenizers` 0.23.2 knows them. Where they differ from this
 * runtime's own (another version of Unicode), the difference is listed; all code points were compared.
 *
 * @module
 */

/** White space. This and the next are sources of character classes, to be used with the flag `v`. */
export const SPACE = "\\p{White_Space}";
/** What words are made of. */
export const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
/** Digits and other numbers. */
export const NUMERIC = "[\\p{N}\\u{11de0}-\\u{11de9}\\u{16ff4}-\\u{16ff6}]";

/** Punctuation that is newer than the library's tables. */
const NEWER_PUNCTUATION = "\\u061d\\u09fd\\u0a76\\u0c77\\u0c84\\u1b4e\\u1b4f\\u1b7d-\\u1b7f" +
  "\\u2e43-\\u2e4f\\u2e52-\\u2e5d\\u{10d6e}\\u{10ead}\\u{10f55}-\\u{10f59}\\u{10f86}-\\u{10f89}" +
  "\\u{113d4}\\u{113d5}\\u{113d7}\\u{113d8}\\u{1144b}-\\u{1144f}\\u{1145a}\\u{1145b}\\u{1145d}" +
  "\\u{11660}-\\u{1166c}\\u{116b9}\\u{1183b}\\u{11944}-\\u{11946}\\u{119e2}\\u{11a3f}-\\u{11a46}" +
  "\\u{11a9a}-\\u{11a9c}\\u{11a9e}-\\u{11aa2}\\u{11b00}-\\u{11b09}\\u{11be1}\\u{11c41}-\\u{11c45}" +
  "\\u{11c70}\\u{11c71}\\u{11ef7}\\u{11ef8}\\u{11f43}-\\u{11f4f}\\u{11fff}\\u{12ff1}\\u{12ff2}" +
  "\\u{16d6d}-\\u{16d6f}\\u{16e97}-\\u{16e9a}\\u{16fe2}\\u{1e5ff}\\u{1e95e}\\u{1e95f}";

/** ASCII's punctuation (which holds symbols) and Unicode's. */
export const PUNCTUATION =
  `[[\\!-\\/\\:-@\\[-\`\\{-~\\p{P}\\u166d\\u{111c9}]--[${NEWER_PUNCTUATION}]]`;

/** Marks here that are none in the library's tables of normalization, or the other way round. */
const OTHER_MARKS = "\\u07fd\\u0897-\\u089f\\u08ca-\\u08d3\\u09fe\\u0afa-\\u0aff\\u0b55\\u0c04" +
  "\\u0c3c\\u0cf3\\u0d00\\u0d3b\\u0d3c\\u0d81\\u0eba\\u0ece\\u1715\\u180f\\u1abf-\\u1ace\\u1cf2" +
  "\\u1cf3\\u1cf7\\u1df6-\\u1dfa\\ua82c\\ua8ff\\u{10d24}-\\u{10d27}\\u{10d69}-\\u{10d6d}" +
  "\\u{10eab}\\u{10eac}\\u{10efc}-\\u{10eff}\\u{10f46}-\\u{10f50}\\u{10f82}-\\u{10f85}\\u{11070}" +
  "\\u{11073}\\u{11074}\\u{110c2}\\u{11145}\\u{11146}\\u{111c9}\\u{111ce}\\u{111cf}\\u{11241}" +
  "\\u{1133b}\\u{113b8}-\\u{113c0}\\u{113c2}\\u{113c5}\\u{113c7}-\\u{113ca}\\u{113cc}-\\u{113d0}" +
  "\\u{113d2}\\u{113e1}\\u{113e2}\\u{1145e}\\u{1182c}-\\u{1183a}\\u{11930}-\\u{11935}\\u{11937}" +
  "\\u{11938}\\u{1193b}-\\u{1193e}\\u{11940}\\u{11942}\\u{11943}\\u{119d1}-\\u{119d7}" +
  "\\u{119da}-\\u{119e0}\\u{119e4}\\u{11a01}-\\u{11a0a}\\u{11a33}-\\u{11a39}\\u{11a3b}-\\u{11a3e}" +
  "\\u{11a47}\\u{11a51}-\\u{11a5b}\\u{11a8a}-\\u{11a99}\\u{11d31}-\\u{11d36}\\u{11d3a}" +
  "\\u{11d3c}\\u{11d3d}\\u{11d3f}-\\u{11d45}\\u{11d47}\\u{11d8a}-\\u{11d8e}\\u{11d90}\\u{11d91}" +
  "\\u{11d93}-\\u{11d97}\\u{11ef3}-\\u{11ef6}\\u{11f00}\\u{11f01}\\u{11f03}\\u{11f34}-\\u{11f3a}" +
  "\\u{11f3e}-\\u{11f42}\\u{11f5a}\\u{13440}\\u{13447}-\\u{13455}\\u{1611e}-\\u{1612f}\\u{16f4f}" +
  "\\u{16f7f}-\\u{16f87}\\u{16fe4}\\u{16ff0}\\u{16ff1}\\u{1cf00}-\\u{1cf2d}\\u{1cf30}-\\u{1cf46}" +
  "\\u{1e08f}\\u{1e130}-\\u{1e136}\\u{1e2ae}\\u{1e2ec}-\\u{1e2ef}\\u{1e4ec}-\\u{1e4ef}" +
  "\\u{1e5ee}\\u{1e5ef}";

/** Marks that the library takes off as accents. */
export const MARK = `[[\\p{M}--[${OTHER_MARKS}]][[${OTHER_MARKS}]--\\p{M}]]`;

/** Characters that have a decomposition here and none in the library's tables. */
const NEWER_DECOMPOSITIONS = "\\u32ff\\ua7f2-\\ua7f4\\uab69\\u{105c9}\\u{105e4}" +
  "\\u{10781}-\\u{10785}\\u{10787}-\\u{107b0}\\u{107b2}-\\u{107ba}\\u{11383}\\u{11385}\\u{1138e}" +
  "\\u{11391}\\u{113c5}\\u{113c7}\\u{113c8}\\u{11938}\\u{16121}-\\u{16128}\\u{16d68}-\\u{16d6a}" +
  "\\u{1ccd6}-\\u{1ccf9}\\u{1e030}-\\u{1e06d}\\u{1f16c}\\u{1fbf0}-\\u{1fbf9}";

/** Runs of characters that the library's normalization knows nothing of. */
const UNNORMALIZED = new RegExp(`([${OTHER_MARKS}${NEWER_DECOMPOSITIONS}]+)`, "v");

/** Capital letters that are newer than this runtime's, each followed by its small letter. */
const NEWER_CAPITALS = new Map(
  [[0xa7ce, 0xa7cf], [0xa7d2, 0xa7d3], [0xa7d4, 0xa7d5]].concat(
    Array.from({ length: 25 }, (_, i) => [0x16ea0 + i, 0x16ebb + i]),
  ).map(([capital, small]) => [String.fromCodePoint(capital), String.fromCodePoint(small)]),
);

const BEYOND_ASCII = /\P{ASCII}/u;

/** Unicode's normalization, by the library's tables. */
export function normalizeUnicode(text: string, form: "NFC" | "NFD" | "NFKC" | "NFKD"): string {
  if (!BEYOND_ASCII.test(text)) return text;
  if (!UNNORMALIZED.test(text)) return text.normalize(form);
  return text.split(UNNORMALIZED).map((part, i) => i % 2 === 1 ? part : part.normalize(form))
    .join("");
}

/** Each character in lower case by itself: a sigma that ends a word is no other than the rest. */
export function lowerCase(text: string): string {
  let lower = "";
  for (const character of text) {
    lower += NEWER_CAPITALS.get(character) ?? character.toLowerCase();
  }
  return lower;
}
