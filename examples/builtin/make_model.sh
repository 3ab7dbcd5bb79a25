#!/bin/sh
# Makes the built-in model from nothing: corpus, tokenizer, pretraining.
#
#   sh examples/builtin/make_model.sh [WORK_FOLDER]
#
# Needs spm_train (Debian's package `sentencepiece`); pretraining wants a GPU. The corpus, the tokenizer
# and the instruction set come out the same every time, the weights but for the GPU's rounding.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-runs/builtin-model}
mkdir -p "$work"
work=$(cd "$work" && pwd)

deno() { "$here/../../lorikeet" deno "$@"; }
deno run --allow-read --allow-write "$here/make_corpus.ts" "$work/corpus.jsonl"

# A 1,024-piece BPE with byte fallback and Llama's ids (unknown 0, BOS 1, EOS 2). The fixed sentences
# of Alpaca's two prompts are one piece each: nothing can be learnt from spelling them out, and a
# sample then costs about 28 tokens in place of 110.
below='▁Below▁is▁an▁instruction▁that▁describes▁a▁task'
paired=',▁paired▁with▁an▁input▁that▁provides▁further▁context'
write='.▁Write▁a▁response▁that▁appropriately▁completes▁the▁request.'
newline='
'
heading="$newline$newline###▁"
symbols="\"$below$paired$write\",$below$write"
symbols="$symbols,${heading}Instruction:$newline,${heading}Input:$newline,${heading}Response:"
# (The model file records these two names, so they are relative.)
(cd "$work" && spm_train --input=corpus.jsonl.txt --model_prefix=tokenizer \
  --model_type=bpe --vocab_size=1024 --byte_fallback=true --character_coverage=1.0 \
  --normalization_rule_name=identity --remove_extra_whitespaces=false --split_digits=true \
  --input_sentence_size=40000 --num_threads=1 --user_defined_symbols="$symbols" --minloglevel=2)
cp "$work/tokenizer.model" "$here/model/tokenizer.model"

deno run --allow-read --allow-write "$here/make_corpus.ts" "$work/pretraining.jsonl" 120000
(cd "$here/../.." && ./lorikeet train examples/builtin/pretrain.yaml \
  --data "$work/pretraining.jsonl" --output "$work/run")
cp "$work/run/model/config.json" "$work/run/model/model.safetensors" "$here/model/"
