#!/usr/bin/env bash
# peft 0.21 takes for modules_to_save every module whose name ends with the word, in the middle of a name too: ["norm"]
# makes trained copies of a Llama's input_layernorm and post_attention_layernorm beside its final norm, without a word.
# In target_modules the same word stands for whole names only, so that one config reads one word in two ways.
# So whoever means the final norm alone writes "model.norm", and a reader of such adapters matches endings as peft does.
#
# Seen with peft 0.21.0, torch 2.13.0, transformers 5.18.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet peft==0.21.0 torch==2.13.0 transformers==5.18.0
venv/bin/python - <<'PYTHON'
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

def trained(**settings):
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
    ))
    model = get_peft_model(model, LoraConfig(r=2, **settings))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [name.removeprefix("base_model.model.model.").split(".modules_to_save")[0]
            for name in names if "modules_to_save" in name]

seen = {word: trained(target_modules=["q_proj"], modules_to_save=[word]) for word in ["norm", "model.norm"]}
for word, names in seen.items():
    print(f"modules_to_save {word!r}: {names}")
assert seen["norm"] == ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"]
assert seen["model.norm"] == ["norm"]
try:
    trained(target_modules=["proj"])
    raise SystemExit("target_modules matches endings too: alike now")
except ValueError as error:
    print("target_modules 'proj':", str(error).split(". ")[0])
    assert "not found" in str(error)
PYTHON
echo "still so"
