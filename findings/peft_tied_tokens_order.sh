#!/usr/bin/env bash
# In peft 0.21 a tied model with trainable_token_indices for embed_tokens and lm_head trains one set of rows if both
# lists are the same, and two sets, apart from each other, if they name the same tokens in another order.
# It says nothing of it, and after merging the tied weight has the rows of only one of the two sets.
# So whoever writes such a config sorts the lists or sets ensure_weight_tying, which makes it an error.
#
# Seen with peft 0.21.0, torch 2.13.0, transformers 5.18.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet peft==0.21.0 torch==2.13.0 transformers==5.18.0
venv/bin/python - <<'PYTHON'
import warnings
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

def made(output, **settings):
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    ))
    tokens = {"embed_tokens": [5, 6], "lm_head": output}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if settings else "error")
        return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=tokens, **settings))

def rows(model):
    return {name.split(".token_adapter")[0].removeprefix("base_model.model."): parameter
            for name, parameter in model.named_parameters() if parameter.requires_grad and "token_adapter" in name}

same, turned = rows(made([5, 6])), rows(made([6, 5]))
print("same order trains:", list(same), "another order trains:", list(turned))
assert list(same) == ["model.embed_tokens"] and list(turned) == ["model.embed_tokens", "lm_head"]

model = made([6, 5])
for name, parameter in rows(model).items():
    torch.nn.init.constant_(parameter, 1.0 if name == "lm_head" else 2.0)
merged = model.merge_and_unload()
print("input rows set to 2, output rows to 1; merged:", merged.model.embed_tokens.weight[5:7].unique().tolist(),
      merged.lm_head.weight[5:7].unique().tolist())
assert merged.model.embed_tokens.weight is merged.lm_head.weight
assert merged.lm_head.weight[5:7].unique().numel() == 1
try:
    made([6, 5], ensure_weight_tying=True)
    raise SystemExit("no error with ensure_weight_tying: changed")
except ValueError as error:
    print("with ensure_weight_tying:", str(error).split(". ")[0])
PYTHON
echo "still so"
