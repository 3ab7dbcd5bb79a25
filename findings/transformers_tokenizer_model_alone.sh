#!/usr/bin/env bash
# transformers 5.18 opens a Llama folder whose tokenizer is tokenizer.model alone as a plain BPE: no BOS and no leading
# space mark, so that every text gets other ids than in transformers 4 and in SentencePiece itself.
# With "tokenizer_class": "LlamaTokenizer" beside it the space mark is back, but BOS only comes with "add_bos_token": true,
# which releases before 5 took for granted.
# So a folder needs tokenizer.json, or tokenizer_config.json with add_bos_token said, to be read as it was meant.
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
own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())

def tokens(settings):
    folder = pathlib.Path("model")
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.convert_ids_to_tokens(tokenizer("the parrot").input_ids)

seen = {
    "SentencePiece itself": own.encode("the parrot", out_type=str),
    "tokenizer.model alone": tokens(None),
    "LlamaTokenizer": tokens({"tokenizer_class": "LlamaTokenizer"}),
    "LlamaTokenizer, add_bos_token": tokens({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}),
}
for name, pieces in seen.items():
    print(f"{name}: {pieces}")
mark = "\u2581"
assert seen["SentencePiece itself"][0] == mark + "the"
assert not seen["tokenizer.model alone"][0].startswith(mark) and seen["tokenizer.model alone"][0] != "<s>"
assert seen["LlamaTokenizer"] == seen["SentencePiece itself"]
assert seen["LlamaTokenizer, add_bos_token"] == ["<s>", *seen["SentencePiece itself"]]
PYTHON
echo "still so"
