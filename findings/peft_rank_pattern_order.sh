#!/usr/bin/env bash
# peft 0.21 takes the first entry of rank_pattern and alpha_pattern that matches a module, but writes
# adapter_config.json with sorted keys, so that of two overlapping entries another one may be first on reload.
# An adapter with such a rank_pattern can't be opened again (size mismatch), and one with such an alpha_pattern opens
# without a word at another scale.
# So whoever writes an adapter gives patterns that don't overlap, or whose sorted order is the one that is meant.
#
# Seen with peft 0.21.0, torch 2.13.0, transformers 5.18.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet peft==0.21.0 torch==2.13.0 transformers==5.18.0
venv/bin/python - <<'PYTHON'
import json, pathlib
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

class Parrot(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(8, 8)}) for _ in range(2))

    def forward(self, x):
        return x

def made(folder, **patterns):
    model = get_peft_model(Parrot(), LoraConfig(r=4, lora_alpha=4, target_modules=["up"], **patterns))
    model.save_pretrained(folder)
    return model.base_model.model.layers[1]["up"]

layer = made("ranks", rank_pattern={"layers.1.up": 6, "1.up": 2})
written = json.loads(pathlib.Path("ranks/adapter_config.json").read_text())["rank_pattern"]
print("rank made:", layer.r["default"], "written:", written)
assert layer.r["default"] == 6 and list(written) == ["1.up", "layers.1.up"]
try:
    PeftModel.from_pretrained(Parrot(), "ranks")
    raise SystemExit("opens again: fixed")
except RuntimeError as error:
    print("reload:", str(error).splitlines()[1].strip())
    assert "size mismatch" in str(error)

scale = made("alphas", alpha_pattern={"layers.1.up": 12, "1.up": 2}).scaling["default"]
again = PeftModel.from_pretrained(Parrot(), "alphas").base_model.model.layers[1]["up"].scaling["default"]
print("scale made:", scale, "after reload:", again)
assert (scale, again) == (3.0, 0.5)
PYTHON
echo "still so"
