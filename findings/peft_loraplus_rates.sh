#!/usr/bin/env bash
# create_loraplus_optimizer of peft 0.21 trains the adapters of an embedding at 1e-6 whatever lr is (its docstring names
# that default of loraplus_lr_embedding), far below any usual lr.
# And everything of one dimension gets B's rate, lr times the ratio: DoRA's magnitudes and the trained biases too.
# So whoever compares LoRA+ with it says loraplus_lr_embedding, and knows which group each parameter is in.
#
# Seen with peft 0.21.0, torch 2.13.0, transformers 5.18.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet peft==0.21.0 torch==2.13.0 transformers==5.18.0
venv/bin/python - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn

class Parrot(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.up = nn.Linear(8, 8)

    def forward(self, x):
        return self.up(self.embed(x))

def rates(lr, **settings):
    model = get_peft_model(Parrot(), LoraConfig(r=2, **settings))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=lr, loraplus_lr_ratio=4)
    found = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name.removeprefix("base_model.model."): rate for name, rate in found.items()}

for lr in [0.01, 0.5]:
    seen = rates(lr, target_modules=["embed", "up"], bias="lora_only")
    print(f"lr {lr}, ratio 4:", seen)
    assert seen["embed.lora_embedding_A.default"] == seen["embed.lora_embedding_B.default"] == 1e-6
    assert seen["up.lora_A.default.weight"] == lr and seen["up.lora_B.default.weight"] == 4 * lr
    assert seen["up.base_layer.bias"] == 4 * lr
seen = rates(0.01, target_modules=["up"], use_dora=True)
print("DoRA, lr 0.01, ratio 4:", seen)
assert seen["up.lora_magnitude_vector.default.weight"] == 0.04
PYTHON
echo "still so"
