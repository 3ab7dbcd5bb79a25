/**
 * The literature that the study guide cites, one line each: its chapters' lists of sources are made of
 * these lines.
 *
 * @module
 */

/** Author, title, year and, where there is one, arXiv's number. */
export const SOURCES = {
  survey: 'Zhao et al., "A Survey of Large Language Models", 2023, arXiv:2303.18223',
  llama:
    'Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv:2302.13971',
  llama2:
    'Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, arXiv:2307.09288',
  llama3: 'Llama Team, "The Llama 3 Herd of Models", 2024, arXiv:2407.21783',
  alpaca: 'Taori et al., "Stanford Alpaca: An Instruction-following LLaMA Model", 2023',
  selfInstruct:
    'Wang et al., "Self-Instruct: Aligning Language Models with Self-Generated Instructions", 2022, ' +
    "arXiv:2212.10560",
  bpe:
    'Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2015, arXiv:1508.07909',
  sentencepiece:
    'Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and ' +
    'detokenizer for Neural Text Processing", 2018, arXiv:1808.06226',
  transformer: 'Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762',
  bert: 'Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language ' +
    'Understanding", 2018, arXiv:1810.04805',
  t5: 'Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text ' +
    'Transformer", 2019, arXiv:1910.10683',
  architecture:
    'Wang et al., "What Language Model Architecture and Pretraining Objective Work Best for ' +
    'Zero-Shot Generalization?", 2022, arXiv:2204.05832',
  rope:
    'Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv:2104.09864',
  alibi:
    'Press et al., "Train Short, Test Long: Attention with Linear Biases Enables Input Length ' +
    'Extrapolation", 2021, arXiv:2108.12409',
  topP: 'Holtzman et al., "The Curious Case of Neural Text Degeneration", 2019, arXiv:1904.09751',
  gpt3: 'Brown et al., "Language Models are Few-Shot Learners", 2020, arXiv:2005.14165',
  instructGpt:
    'Ouyang et al., "Training language models to follow instructions with human feedback", 2022, ' +
    "arXiv:2203.02155",
  dpo:
    'Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward ' +
    'Model", 2023, arXiv:2305.18290',
  prefix:
    'Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021, arXiv:2101.00190',
  prompt:
    'Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", 2021, arXiv:2104.08691',
  chainOfThought:
    'Wei et al., "Chain-of-Thought Prompting Elicits Reasoning in Large Language Models", 2022, ' +
    "arXiv:2201.11903",
  hallucination:
    'Ji et al., "Survey of Hallucination in Natural Language Generation", 2022, arXiv:2202.03629',
  mmlu:
    'Hendrycks et al., "Measuring Massive Multitask Language Understanding", 2020, arXiv:2009.03300',
  bigBench:
    'Srivastava et al., "Beyond the Imitation Game: Quantifying and extrapolating the capabilities ' +
    'of language models", 2022, arXiv:2206.04615',
  helm: 'Liang et al., "Holistic Evaluation of Language Models", 2022, arXiv:2211.09110',
  batchNorm:
    'Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing ' +
    'Internal Covariate Shift", 2015, arXiv:1502.03167',
  rmsNorm: 'Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv:1910.07467',
  sublinear: 'Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174',
  eckartYoung:
    'Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika, 1936',
  lora: 'Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685',
  intrinsic:
    'Aghajanyan et al., "Intrinsic Dimensionality Explains the Effectiveness of Language Model ' +
    'Fine-Tuning", 2020, arXiv:2012.13255',
  qlora: 'Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, arXiv:2305.14314',
  blockWise:
    'Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2021, arXiv:2110.02861',
  mixedPrecision: 'Micikevicius et al., "Mixed Precision Training", 2017, arXiv:1710.03740',
} as const;

/** A key of {@linkcode SOURCES}. */
export type Source = keyof typeof SOURCES;
