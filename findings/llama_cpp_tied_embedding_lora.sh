#!/usr/bin/env bash
# llama.cpp 0.5.0 adds a LoRA for token_embd to the rows looked up, and where the model has no output.weight of its own
# to the logits too, while PEFT's LoRA on embed_tokens of a tied model changes the lookup alone.
# What it adds there isn't the tied weight's update either: a file's factors of an embedding stand the other way round
# than those of a product, and it multiplies with them, without a word, as if they didn't.
# So such an adapter needs a base file that holds the tied weight a second time, as output.weight: then both agree.
#
# Hidden size, vocabulary and rank are all 288 here: only then do the factors fit each other in that order.
# Seen with node-llama-cpp 3.22.1 (llama.cpp 0.5.0, CPU), gguf 0.19.0, peft 0.21.0, torch 2.13.0, transformers 5.18.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet gguf==0.19.0 peft==0.21.0 torch==2.13.0 transformers==5.18.0
venv/bin/python - <<'PYTHON'
import json
import gguf
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZE, TOKEN = 288, 270
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=SIZE, hidden_size=SIZE, intermediate_size=32, num_hidden_layers=1, num_attention_heads=9,
    rms_norm_eps=1e-5, tie_word_embeddings=True,
)).requires_grad_(False)
weights = {"token_embd": model.model.embed_tokens.weight, "output_norm": model.model.norm.weight}
layer = model.model.layers[0]
for name, module in {
    "attn_norm": layer.input_layernorm, "attn_q": layer.self_attn.q_proj, "attn_k": layer.self_attn.k_proj,
    "attn_v": layer.self_attn.v_proj, "attn_output": layer.self_attn.o_proj, "ffn_norm": layer.post_attention_layernorm,
    "ffn_gate": layer.mlp.gate_proj, "ffn_up": layer.mlp.up_proj, "ffn_down": layer.mlp.down_proj,
}.items():
    weights[f"blk.0.{name}"] = module.weight
embedding = torch.nn.init.normal_(weights["token_embd"])
# The layer adds nothing to its input, so that the logits are the embedding times the normalised row.
for name in ["attn_output", "ffn_down"]:
    torch.nn.init.zeros_(weights[f"blk.0.{name}"])

adapted = get_peft_model(model, LoraConfig(r=SIZE, lora_alpha=SIZE, target_modules=["embed_tokens"]))
lookup = adapted.base_model.model.model.embed_tokens
a, b = lookup.lora_embedding_A["default"], lookup.lora_embedding_B["default"]
with torch.no_grad():
    for factor in [a, b]:
        torch.nn.init.normal_(factor, std=0.2)
    seen = adapted(torch.tensor([[TOKEN]])).logits[0, -1]
    row, plain = embedding[TOKEN] + b @ a[:, TOKEN], embedding[TOKEN]
    row, plain = (x / (x.square().mean() + 1e-5).sqrt() for x in [row, plain])
    expected = {
        "lookup alone": embedding @ row,
        "logits alone": (embedding + (b @ a).T) @ plain,
        "both, with the tied weight's update": (embedding + (b @ a).T) @ row,
        "both, with the factors in a product's order": embedding @ row + b @ (a.T @ row),
    }
for name, logits in expected.items():
    print(f"PEFT's logits differ from '{name}' by {(seen - logits).abs().max():.1e}")
assert [name for name, logits in expected.items() if torch.allclose(seen, logits, atol=1e-3)] == ["lookup alone"]
with open("expected.json", "w") as file:
    json.dump({"token": TOKEN, "expected": {name: logits.tolist() for name, logits in expected.items()}}, file)

def write(path, tensors, fill):
    writer = gguf.GGUFWriter(path, "llama")
    fill(writer)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

def base(writer):
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(SIZE)
    writer.add_feed_forward_length(32)
    writer.add_head_count(9)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    special, byte_tokens = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f"word{i}" for i in range(SIZE - 259)]
    kind = gguf.TokenType
    writer.add_token_list(special + byte_tokens + words)
    writer.add_token_scores([0.0] * SIZE)
    writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256 + [kind.NORMAL] * len(words))

def lora(writer):
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, SIZE)

tensors = {f"{name}.weight": tensor for name, tensor in weights.items()}
write("tied.gguf", tensors, base)
write("twice.gguf", {**tensors, "output.weight": embedding}, base)
write("adapter.gguf", {"token_embd.weight.lora_a": a.T, "token_embd.weight.lora_b": b}, lora)
PYTHON
# The CPU's library alone: those for GPUs are 600 MB more.
echo '{}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --omit=optional node-llama-cpp@3.22.1 \
  "@node-llama-cpp/$(node -p 'process.platform + "-" + process.arch')@3.22.1" > /dev/null
cat > compare.mjs <<'JAVASCRIPT'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const { token, expected } = JSON.parse(readFileSync("expected.json", "utf8"));
const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: LlamaLogLevel.error });
console.log("llama.cpp", llama.llamaCppRelease.release);

/** What the logits after one token are, of those expected. */
async function seen(file) {
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize: 64, threads: 1, lora: "adapter.gguf" });
  const [{ next }] = await context.getSequence().controlledEvaluate([[token, { generateNext: { logits: true } }]]);
  await model.dispose();
  return Object.keys(expected).filter((name) => {
    const difference = Math.max(...expected[name].map((logit, i) => Math.abs(logit - next.logits.get(i))));
    console.log(`${file}: logits differ from '${name}' by ${difference.toExponential(1)}`);
    return difference < 1e-3;
  });
}
assert.deepEqual(await seen("tied.gguf"), ["both, with the factors in a product's order"]);
assert.deepEqual(await seen("twice.gguf"), ["lookup alone"]);
await llama.dispose();
JAVASCRIPT
node compare.mjs
echo "still so"
