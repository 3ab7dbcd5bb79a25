#!/usr/bin/env bash
# transformers 5.18 can't open a tokenizer whose tokenizer_config.json says "" for bos_token, eos_token and unk_token, as
# the first conversions of LLaMA have it (decapoda-research/llama-7b-hf): RecursionError. With unk_token left out it opens,
# but BOS and EOS are then both id 0, and no BOS is added.
# So a folder that is made of such a one needs the tokenizer's own <s>, </s> and <unk> in its settings.
#
# Seen with transformers 5.18.0, tokenizers 0.23.2, sentencepiece 0.2.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.18.0 tokenizers==0.23.2 sentencepiece==0.2.2 protobuf
TRANSFORMERS_VERBOSITY=error venv/bin/python - <<'PYTHON'
import io, json, pathlib
import sentencepiece
from transformers import AutoTokenizer

words = "the parrot eats a seed and sings to the other parrot in the tree while the seed falls".split()
text = [" ".join(words[i:] + words[:i]) for i in range(len(words))] * 20
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text), model_writer=model, vocab_size=300, model_type="bpe",
    byte_fallback=True, minloglevel=2, hard_vocab_limit=False,
)
folder = pathlib.Path("model")
folder.mkdir()
(folder / "tokenizer.model").write_bytes(model.getvalue())
(folder / "config.json").write_text(json.dumps({"model_type": "llama"}))

def opened(**tokens):
    settings = {"tokenizer_class": "LlamaTokenizer", **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return tokenizer.bos_token_id, tokenizer.eos_token_id
    except RecursionError:
        return "RecursionError"

empty = opened(bos_token="", eos_token="", unk_token="")
print("all three empty:", empty)
without_unk = opened(bos_token="", eos_token="")
print("unk_token left out, ids of BOS and EOS:", without_unk)
plain = opened()
print("none of them said:", plain)
assert empty == "RecursionError"
assert without_unk == (0, 0)
assert plain == (1, 2)
PYTHON
echo "still so"
