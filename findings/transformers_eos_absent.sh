#!/usr/bin/env bash
# In transformers 5.18 a Llama folder without generation_config.json whose config.json doesn't name eos_token_id has
# model.config.eos_token_id 2, LlamaConfig's default, and yet generate knows no end token and runs to its limit.
# Only what config.json has in writing is taken over into the generation settings, though the config of the model
# that was opened says 2 either way.
# So whoever writes such a folder writes eos_token_id out, in generation_config.json or in config.json.
#
# Seen with transformers 5.18.0, torch 2.13.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.18.0 torch==2.13.0
TRANSFORMERS_VERBOSITY=error venv/bin/python - <<'PYTHON'
import json, pathlib
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=4, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
))
with torch.no_grad():  # a model that always says token 2
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "norm" in name or "embed" in name else 0.0)
    model.lm_head.weight[2] = 1.0
folder = pathlib.Path("model")
model.save_pretrained(folder)
(folder / "generation_config.json").unlink()
settings = json.loads((folder / "config.json").read_text())

def opened(**more):
    written = {name: value for name, value in settings.items() if name != "eos_token_id"}
    (folder / "config.json").write_text(json.dumps({**written, **more}))
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = model.generate(torch.tensor([[1]]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    return model.config.eos_token_id, model.generation_config.eos_token_id, ids[0, 1:].tolist()

written, absent = opened(eos_token_id=2), opened()
print("eos_token_id 2 written: config {}, generation {}, generated {}".format(*written))
print("eos_token_id absent: config {}, generation {}, generated {}".format(*absent))
assert written == (2, 2, [2])
assert absent == (2, None, [2] * 6)
PYTHON
echo "still so"
