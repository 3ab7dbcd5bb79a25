"""A Llama in plain PyTorch, 1.13 or later, for machines without `transformers` and `peft`: its class, its loss,
LoRA and gradient checkpointing. It computes what LlamaForCausalLM does."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class RMSNorm(nn.Module):
    def __init__(self, width, eps, factory):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(width, **factory))

    def forward(self, x):
        h = x.float()
        return self.weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class LoraLinear(nn.Module):
    """A frozen layer and its adapter, in f32 as PEFT keeps it."""

    def __init__(self, frozen, rank, alpha, dropout):
        super().__init__()
        device = frozen.weight.device
        self.frozen, self.scale, self.dropout = frozen, alpha / rank, nn.Dropout(dropout)
        self.a = nn.Linear(frozen.in_features, rank, bias=False, device=device, dtype=torch.float32)
        self.b = nn.Linear(rank, frozen.out_features, bias=False, device=device, dtype=torch.float32)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        update = self.b(self.a(self.dropout(x.float()))) * self.scale
        y = self.frozen(x)
        return y + update.to(y.dtype)


def rotation(config, length, device):
    """RoPE's cosines and sines, [T, head_dim], in f32."""
    steps = torch.arange(0, config["head_dim"], 2, device=device).float() / config["head_dim"]
    angles = torch.outer(torch.arange(length, device=device).float(), config["rope_theta"] ** -steps)
    both = torch.cat([angles, angles], -1)
    return both.cos(), both.sin()


def rotate(x, cosines, sines):
    """RoPE on [..., T, head_dim]: feature i pairs with i + head_dim / 2."""
    left, right = x.chunk(2, -1)
    return x * cosines.to(x.dtype) + torch.cat([-right, left], -1) * sines.to(x.dtype)


def attend(q, k, v):
    """Causal attention of [1, heads, T, head_dim]."""
    if hasattr(F, "scaled_dot_product_attention"):  # from PyTorch 2.0 on
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    def __init__(self, config, factory):
        super().__init__()
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.width, hidden, bias = config["head_dim"], config["hidden_size"], config["attention_bias"]
        self.q_proj = nn.Linear(hidden, self.heads * self.width, bias, **factory)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.width, bias, **factory)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.width, bias, **factory)
        self.o_proj = nn.Linear(self.heads * self.width, hidden, bias, **factory)

    def forward(self, x, cosines, sines):
        def split(y):
            return y.unflatten(-1, (-1, self.width)).transpose(1, 2)

        q, k = (rotate(split(f(x)), cosines, sines) for f in (self.q_proj, self.k_proj))
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, split(self.v_proj(x))))
        return self.o_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config, factory):
        super().__init__()
        hidden, inner, bias = config["hidden_size"], config["intermediate_size"], config["mlp_bias"]
        self.gate_proj = nn.Linear(hidden, inner, bias, **factory)
        self.up_proj = nn.Linear(hidden, inner, bias, **factory)
        self.down_proj = nn.Linear(inner, hidden, bias, **factory)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config, factory):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.self_attn, self.mlp = Attention(config, factory), MLP(config, factory)
        self.input_layernorm = RMSNorm(hidden, eps, factory)
        self.post_attention_layernorm = RMSNorm(hidden, eps, factory)

    def forward(self, x, cosines, sines):
        x = x + self.self_attn(self.input_layernorm(x), cosines, sines)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """A model with random weights; called with ids and labels, [1, T] each, it gives their mean loss."""

    def __init__(self, config, checkpointing, device, dtype):
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        hidden, vocab = config["hidden_size"], config["vocab_size"]
        self.config, self.checkpointing = config, checkpointing
        self.embed_tokens = nn.Embedding(vocab, hidden, **factory)
        self.layers = nn.ModuleList(Block(config, factory) for _ in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(hidden, config["rms_norm_eps"], factory)
        self.lm_head = nn.Linear(hidden, vocab, bias=False, **factory)
        if config["tie_word_embeddings"]:
            self.lm_head.weight = self.embed_tokens.weight
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=config["initializer_range"])

    def forward(self, ids, labels):
        x = self.embed_tokens(ids)
        cosines, sines = rotation(self.config, ids.shape[1], ids.device)
        for block in self.layers:
            if self.checkpointing:
                x = checkpoint(block, x, cosines, sines, use_reentrant=False)
            else:
                x = block(x, cosines, sines)
        logits = self.lm_head(self.norm(x)).float()
        return F.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)


def add_adapters(model, rank, alpha, dropout, targets):
    """Freezes the weights and puts an adapter on every linear layer of one of these names."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in targets:
                setattr(module, name, LoraLinear(child, rank, alpha, dropout))
