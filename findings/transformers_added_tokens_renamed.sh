#!/usr/bin/env bash
# With a tokenizer.model alone, transformers 5.18 doesn't keep to the ids of added_tokens_decoder in
# tokenizer_config.json: an entry that gives a token to an id of the vocabulary is appended beyond its end instead.
# The id keeps the piece that it had, and a text with the token gets an id for which a model of that vocabulary has no
# row in its embedding.
# So whoever gives spare ids of a tokenizer.model other names needs a tokenizer.json, or renames the pieces themselves.
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
    sentence_iterator=iter(text), model_writer=model, vocab_size=300, model_type="bpe", byte_fallback=True,
    minloglevel=2, hard_vocab_limit=False, user_defined_symbols=["<spare_0>", "<spare_1>"],
)
own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
size, spare = len(own), own.piece_to_id("<spare_0>")
folder = pathlib.Path("model")
folder.mkdir()
(folder / "tokenizer.model").write_bytes(model.getvalue())
(folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": size}))
settings = {
    "tokenizer_class": "LlamaTokenizer",
    "added_tokens_decoder": {
        str(spare): {"content": "<|user|>", "special": True},
        str(spare + 1): {"content": "<|end|>", "special": True},
    },
}
(folder / "tokenizer_config.json").write_text(json.dumps(settings))
tokenizer = AutoTokenizer.from_pretrained(folder)
seen = tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>"])
kept = tokenizer.convert_ids_to_tokens([spare, spare + 1])
encoded = tokenizer("<|user|>", add_special_tokens=False).input_ids
print(f"{size} pieces; said to be {spare} and {spare + 1}, the tokens are {seen}, and those ids are still {kept}")
print("'<|user|>' is encoded as", encoded)
assert seen == [size, size + 1], "the ids that were said: fixed"
assert kept == ["<spare_0>", "<spare_1>"] and encoded == [size]
PYTHON
echo "still so"
