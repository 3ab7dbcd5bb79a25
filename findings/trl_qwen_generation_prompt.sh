#!/usr/bin/env bash
# TRL 1.13 puts `{% generation %}` into Qwen 2.5's chat template so that assistant_only_loss trains the assistant's words alone,
# but the newline that already ends the generation prompt is among the tokens that are marked; in its template for Qwen 3 it is not.
# A mask of "what the model generates" that is taken from there has one token too many in every turn.
#
# Seen with trl 1.13.0, transformers 5.18.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.18.0 jinja2==3.1.6
venv/bin/pip install --quiet --no-deps trl==1.13.0
cat > masks.py <<'PYTHON'
import pathlib, sysconfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# A token for every byte: what is marked can be read letter by letter.
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
letters = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
letters.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>")

templates = pathlib.Path(sysconfig.get_paths()["purelib"]) / "trl" / "chat_templates"
question = [{"role": "user", "content": "hi"}]
marked = {}
for name in ["qwen2_5_training", "qwen3_training"]:
    template = (templates / f"{name}.jinja").read_text()
    prompt = tokenizer.apply_chat_template(question, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n"), prompt
    encoded = tokenizer.apply_chat_template(
        question + [{"role": "assistant", "content": "yes"}],
        chat_template=template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    text = tokenizer.decode(encoded["input_ids"])
    assert text.startswith(prompt), text
    first = encoded["assistant_masks"].index(1)
    marked[name] = tokenizer.decode(encoded["input_ids"][first:])
    given = len(tokenizer(prompt)["input_ids"])
    print(f"{name}: the prompt has {given} tokens, the first marked one is number {first}: {marked[name]!r}")
assert marked["qwen2_5_training"].startswith("\nyes"), marked
assert not marked["qwen3_training"].startswith("\n"), marked
PYTHON
venv/bin/python masks.py
