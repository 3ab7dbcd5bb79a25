#!/usr/bin/env bash
# In transformers 5.18 the class that tokenizer_config.json names decides how text is cut, even where a whole
# tokenizer.json lies beside it: its vocabulary and merges are taken, its normalizer and pre-tokenizer are not.
# One byte-level tokenizer.json gives three readings under the names PreTrainedTokenizerFast, LlamaTokenizerFast and
# Qwen2Tokenizer, though the first two were the same tokenizer in releases before 5.
# Whoever writes a tokenizer.json that is to be read as it stands writes PreTrainedTokenizerFast (or TokenizersBackend) beside it.
#
# Seen with transformers 5.18.0, tokenizers 0.23.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.18.0 tokenizers==0.23.2
TRANSFORMERS_VERBOSITY=error venv/bin/python - <<'PYTHON'
import json, pathlib
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

made = Tokenizer(models.BPE())
made.normalizer = normalizers.Lowercase()
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
made.train_from_iterator(["a green parrot 2024", "another grey parrot 1999"] * 50, trainer)
folder = pathlib.Path("model")
folder.mkdir()
made.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
text = "A Parrot 12"

def tokens(name):
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)

file = made.encode(text).tokens
print(f"tokenizer.json itself: {file}")
seen = {name: tokens(name) for name in ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "Qwen2Tokenizer"]}
for name, pieces in seen.items():
    print(f"{name}: {pieces}")
assert seen["PreTrainedTokenizerFast"] == file
assert seen["LlamaTokenizerFast"] != file and seen["Qwen2Tokenizer"] != file
assert seen["LlamaTokenizerFast"] != seen["Qwen2Tokenizer"]
PYTHON
echo "still so"
