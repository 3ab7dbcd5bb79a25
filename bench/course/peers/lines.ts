/**
 * How the comparison with PyTorch is printed.
 *
 * @module
 */
import { number, switched } from "../table2_lines.ts";
import { tableLines } from "../../text_table.ts";
import type { Peers, PeersRow } from "./series.ts";
import type { TorchInfo } from "./torch.ts";

function cells(row: PeersRow): string[] {
  const { lorikeet, torch, time_ratio, memory_ratio } = row;
  return [
    ...[row.gradient_accumulation, row.mixed_precision, row.lora].map(switched),
    row.checkpointing,
    row.optimizer,
    number(lorikeet.runtime_s, 2),
    number(torch?.runtime_s, 2),
    time_ratio?.toFixed(2) ?? "",
    number(lorikeet.peak_memory_mb, 1),
    number(torch?.peak_memory_mb, 1),
    memory_ratio?.toFixed(2) ?? "",
  ];
}

/** What PyTorch's side is. */
function torchName({ implementation, torch, transformers, peft }: TorchInfo): string {
  const parts = [`PyTorch ${torch}`];
  if (transformers !== null && peft !== null) {
    parts.push(`transformers ${transformers}`, `peft ${peft}`);
  }
  const own = implementation === "plain PyTorch"
    ? " (a Llama written for this bench: transformers and peft can't both be imported)"
    : "";
  return parts.join(", ") + own;
}

/** What has to be known to read the numbers. */
function notes({ device, rows }: Peers): string[] {
  const memory = device.software
    ? "Lorikeet's is all buffers; PyTorch's is by how much its process grew, code that it loads included"
    : "Lorikeet's is all buffers; PyTorch's is all tensors, without what its allocator keeps besides";
  const lines = [
    "Ratios are PyTorch's over Lorikeet's: above 1 Lorikeet takes less. × does not fit.",
    "Same samples in the same order. Loading, compiling and a first step without effect are not in the times; " +
    "PyTorch's weights are random.",
    "Mixed precision (MP) is f16 with f32 masters here; in PyTorch bf16, with LoRA as the dtype of the frozen weights " +
    "beside f32 adapters, else by autocast of f32 weights. Without it PyTorch computes in f32, not in TF32.",
    `Memory: ${memory}.`,
  ];
  if (rows.some(({ torch }) => torch === undefined)) {
    lines.push("What Lorikeet's plan refuses, and nobody tried, was not tried in PyTorch either.");
  }
  return lines;
}

/** The comparison as lines of text, or of Markdown. */
export function peersLines(peers: Peers, markdown: boolean): string[] {
  const { model, samples, tokens, gpu, provider, lorikeet, torch, rows } = peers;
  const head = [
    "GA",
    "MP",
    "LoRA",
    "checkpointing",
    "optimizer",
    "Lorikeet (s)",
    "PyTorch (s)",
    "ratio",
    "Lorikeet (MB)",
    "PyTorch (MB)",
    "ratio",
  ];
  return [
    `${model}, ${samples} samples${tokens === undefined ? "" : ` of ${tokens} tokens`}, batch 1`,
    `Lorikeet ${lorikeet} on ${gpu} (${provider})`,
    `${torchName(torch)} on ${torch.device === "cpu" ? "the CPU" : torch.cuda}`,
    "",
    ...tableLines([head, ...rows.map(cells)], markdown),
    "",
    ...notes(peers).map((line) => markdown ? `- ${line}` : line),
  ];
}
