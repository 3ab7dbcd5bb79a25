/** Varied texts for comparing tokenizers, the same each time. */

/** Numbers below `n`, by a generator of its own (mulberry32). */
export function randomBelow(seed: number): (n: number) => number {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

const WORDS = "the of and a bird Lorikeet sings naïve façade Straße don't can't I'M we'LL it's " +
  "antidisestablishmentarianism HTTP camelCase snake_case ALLCAPS lower résumé Grüße";
const SCRIPTS =
  "你好 世界 日本語 テキスト 한국어 안녕하세요 مرحبا بالعالم עברית नमस्ते दुनिया Привет мир ไทย ελληνικά " +
  "ქართული አማርኛ தமிழ் 𠜎𠜱 𝒜𝓁𝑔";
const EMOJI = "😀 🐀 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷🇳🇱 👍🏽 ❤️ 🧑🏿‍🚀 1️⃣ ☺ 𐀀";
const CODE =
  "def f(x): | return x**2 # | for (let i=0;i<10;++i) | {\"a\":[1,2]} | <div class='x'> | " +
  "\\n\\t | #include<stdio.h> | a->b && !c || d | https://a.org/?b=c&d=%20#e | $1,234.56";
const CONTROL =
  "<s> </s> <unk> <pad> <0x0A> <0xE2> [INST] [/INST] <<SYS>> <|eot_id|> <|begin_of_text|>";
const MARKS =
  "e\u0301 n\u0303 a\u0308\u0323 \u0e01\u0e33 \u200b \u200d \u00a0 \u3000 \ufeff \u2028 " +
  "\ufffd \ufffe \uffff \u{10ffff} \ue000 \u0378 \u00ad ﬁ ＡＢＣ ① ½ ² ٣٤ ⅷ";

const LISTS = [WORDS, SCRIPTS, EMOJI, CODE.replaceAll(" | ", "\u0000"), CONTROL, MARKS];
/** Whatever a text is put together from. */
const PARTS: string[][] = [
  ...LISTS.map((list) => list.split(list.includes("\u0000") ? "\u0000" : " ")),
  [..."0123456789", "42", "3.14159", "1,000,000", "007", "2^10", "0x1F"],
  [" ", "  ", "   ", "        ", " ".repeat(17)],
  ["\n", "\n\n", "\r\n", "\t", "\t\t", "\n    ", " \n", "\r"],
  ["\u0000", "\u0001", "\u0007", "\u001b[1m", "\u007f", "\u0085", "\u009f", "\v", "\f"],
  [..."!?.,;:-_'\"()[]{}<>/\\|@#$%^&*+=~`…—“”«»"],
];

/** `count` different texts of up to 20 parts, with some fixed ones at the beginning. */
export function variedTexts(count: number, seed = 7): string[] {
  const fixed = [
    "",
    " ",
    "  ",
    "\n",
    "\t",
    " a",
    "a ",
    " a ",
    "\ufeffBOM first, then a text",
    "\ufffd",
  ];
  const below = randomBelow(seed);
  const pick = <T>(list: readonly T[]) => list[below(list.length)];
  const texts = new Set([...fixed, ...PARTS.flat()]);
  while (texts.size < count) {
    const parts = Array.from({ length: 1 + below(20) }, () => pick(pick(PARTS)));
    texts.add(parts.join(pick(["", " "])));
  }
  return [...texts].slice(0, count);
}
