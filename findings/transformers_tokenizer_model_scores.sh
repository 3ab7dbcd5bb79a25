#!/usr/bin/env bash
# transformers 5.18 reads a tokenizer.model by LlamaTokenizer with its merges in the order of the pieces' ids, where
# SentencePiece itself goes by their scores.
# In a model whose runs of blanks have early ids and the lowest score, SentencePiece joins blanks last and LlamaTokenizer
# first, so that a text with two blanks in a row gets other ids.
# So a folder of such a tokenizer needs a tokenizer.json with the merges in the order of the scores.
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
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import AutoTokenizer

words = "the parrot eats a seed and sings to the other parrot in the tree while the seed falls".split()
text = [" ".join(words[i:] + words[:i]) + "  a    parrot" for i in range(len(words))] * 20
trained = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text), model_writer=trained, vocab_size=300, model_type="bpe", byte_fallback=True,
    minloglevel=2, hard_vocab_limit=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
)

def pieces(lowest):
    model = ModelProto.FromString(trained.getvalue())
    for piece in model.pieces:
        if lowest and len(piece.piece) > 1 and set(piece.piece) == {"\u2581"}:
            piece.score = -1e9
    folder = pathlib.Path("model")
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    own = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    read = AutoTokenizer.from_pretrained(folder)
    return [(own.encode(line, out_type=str), read.convert_ids_to_tokens(read(line, add_special_tokens=False).input_ids))
            for line in ["the parrot", "the  parrot"]]

for lowest in [False, True]:
    one, two = pieces(lowest)
    print("blanks have the lowest score:" if lowest else "scores as trained:", *two)
    assert one[0] == one[1], "the space mark is not at fault"
    assert (two[0] == two[1]) == (not lowest)
PYTHON
echo "still so"
