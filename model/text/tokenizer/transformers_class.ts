/**
 * Which class of `transformers` 5.18 opens a folder's tokenizer, as `AutoTokenizer` chooses it without
 * trusting code that the folder brings.
 *
 * @module
 */
import { brief, isObject } from "../../files/json_file.ts";

/** Classes with a form of their own that are known here; `TokenizersBackend` has none. */
const KNOWN_CLASSES = [
  "TokenizersBackend",
  "LlamaTokenizer",
  "CodeLlamaTokenizer",
  "GemmaTokenizer",
  "GPT2Tokenizer",
  "Qwen2Tokenizer",
  "Qwen3_5Tokenizer",
  "GPTNeoXTokenizer",
  "CohereTokenizer",
] as const;

/** One of them. */
export type TokenizerClass = typeof KNOWN_CLASSES[number];

/** Classes of `transformers` with a form of their own that isn't known here. */
const OTHER_CLASSES = new Set(
  ("Albert Bart Barthez Bartpho BertGeneration BertJapanese Bert Bertweet BigBird BioGpt Blenderbot " +
    "BlenderbotSmall ByT5 CLIP CTRL Camembert Canine Clvp CodeGen CpmAnt Cpm DPRContextEncoder " +
    "DPRQuestionEncoder DPRReader Deberta DebertaV2 Dia DistilBert Esm Esmc FSMT " +
    "FastSpeech2Conformer Flaubert Funnel GPTNeoXJapanese GPTSw3 Herbert LED Lasr LayoutLMv2 " +
    "LayoutLMv3 LayoutXLM Luke Lxmert M2M100 MBart50 MBart MLuke MPNet Marian MarkupLM Mgpstr " +
    "MobileBert Mvp MyT5 Nllb Nougat OpenAIGPT PLBart Pegasus Perceiver Phobert Pop2Piano " +
    "ProphetNet Rag Reformer RemBert RoCBert RoFormer Roberta SeamlessM4T Siglip2 Siglip Speech2Text " +
    "SpeechT5 Splinter SqueezeBert T5 Tapas Tipsv2 Udop VideoPrism Vits Wav2Vec2CTC " +
    "Wav2Vec2PhonemeCTC Whisper XGLM XLMRoberta XLM XLNet").split(" ")
    .map((name) => `${name}Tokenizer`),
);

/** Classes by model type, of models that continue texts. */
const BY_MODEL_TYPE = new Map<string, string>(
  Object.entries({
    CohereTokenizer: "cohere cohere2",
    GemmaTokenizer: "gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma zaya",
    GPT2Tokenizer: "codegen dbrx gpt2 gpt_neo gptj jais2 opt phi starcoder2",
    GPTNeoXTokenizer: "falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm",
    Qwen2Tokenizer: "qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next",
    Qwen3_5Tokenizer: "qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text",
    TokenizersBackend: "arctic deepseek_v2 deepseek_v3 ernie4_5 flex_olmo glm glm4 glm4_moe " +
      "gpt_bigcode granite granitemoe granitemoehybrid granitemoeshared hyperclovax internlm2 " +
      "jamba kimi_linear mimo_v2_flash minicpm3 minimax_m2 ministral ministral3 mistral mistral3 " +
      "mixtral nemotron olmo2 olmo3 persimmon phi3 phimoe stablelm step3p5",
  }).flatMap(([name, types]) => types.split(" ").map((type): [string, string] => [type, name])),
);

/** Model types whose published tokenizer_config.json names a wrong class: theirs counts instead. */
const NAMED_WRONGLY = new Set(["qwen2", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text"]);

/** Names for the class that takes a tokenizer.json as it is. */
const GENERIC = new Set(["TokenizersBackend", "PreTrainedTokenizer", "PythonBackend"]);

/** A class's name without the ending that older versions had. */
function stem(name: string): string {
  return name.replace(/Fast$/, "");
}

/** The class of this name; one that `transformers` doesn't have is the generic one. */
function named(name: string): TokenizerClass {
  const found = KNOWN_CLASSES.find((known) => known === stem(name));
  if (found !== undefined) return found;
  if (OTHER_CLASSES.has(stem(name))) {
    throw new RangeError(
      `is of the class ${brief(name)} of transformers, which is not supported; ` +
        `expected ${KNOWN_CLASSES.slice(1).join(", ")}, or PreTrainedTokenizerFast`,
    );
  }
  return "TokenizersBackend";
}

/**
 * The class.
 *
 * @param config tokenizer_config.json.
 * @param model config.json.
 * @throws {RangeError} naming a class that isn't known here, or saying that the folder needs its own code.
 */
export function transformersClass(
  config: Record<string, unknown>,
  model: Record<string, unknown>,
): TokenizerClass {
  const given = config.tokenizer_class ?? model.tokenizer_class;
  const name = typeof given === "string" ? given : undefined;
  const type = typeof model.model_type === "string" ? model.model_type : "";
  const registered = BY_MODEL_TYPE.get(type);
  const { auto_map } = config;
  const ownCode = Array.isArray(auto_map) ||
    (isObject(auto_map) && auto_map.AutoTokenizer !== undefined && auto_map.AutoTokenizer !== null);
  if (ownCode && !NAMED_WRONGLY.has(type)) {
    const local = registered !== undefined ||
      (name !== undefined &&
        (GENERIC.has(stem(name)) || KNOWN_CLASSES.some((known) => known === stem(name)) ||
          OTHER_CLASSES.has(stem(name))));
    if (!local) {
      throw new RangeError(
        "is opened by code of its own (auto_map in tokenizer_config.json, class " +
          `${brief(given)}), which is not run; expected a class of transformers`,
      );
    }
  } else if (name !== undefined && registered !== undefined && registered !== stem(name)) {
    if (GENERIC.has(registered)) return "TokenizersBackend";
    return named(NAMED_WRONGLY.has(type) ? registered : name);
  }
  if (name !== undefined) return named(name);
  return registered === undefined ? "TokenizersBackend" : named(registered);
}
