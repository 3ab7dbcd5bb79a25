#!/usr/bin/env bash
# Hugging Face's tokenizers 0.23.2: of two added tokens that its normalizer makes the same text ("FOO" and "Foo" in lower
# case), a text gives now the one and now the other, differently in each instance of the same tokenizer in one process.
# Expected: always the same, say the first. And id_to_token gives such a token's normalized text, not its own.
#
# So Lorikeet refuses such a tokenizer by naming both tokens.
#
# Seen with tokenizers 0.23.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet tokenizers==0.23.2
venv/bin/python - <<'PYTHON'
from tokenizers import AddedToken, Tokenizer, models, normalizers

def chosen():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_tokens([AddedToken("FOO", normalized=True), AddedToken("Foo", normalized=True)])
    return tokenizer.encode("foo").ids[0], tokenizer.id_to_token(2)

seen = [chosen() for _ in range(40)]
print("ids of 'foo' in 40 instances:", sorted({number for number, _ in seen}))
print("token 2, added as 'FOO', is called:", sorted({text for _, text in seen}))
assert {number for number, _ in seen} == {2, 3}, "always the same: fixed"
PYTHON
