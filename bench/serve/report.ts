/**
 * What the measurement of a server came to, as text.
 *
 * @module
 */
import { printLine } from "../../kernels/terminal.ts";
import { tableLines } from "../text_table.ts";
import type { LoadResult, Spread } from "./load.ts";

/** Prompts that begin alike. */
export interface SharedPrefix {
  /** Tokens that they have in common. */
  prefix: number;
  /** Tokens that follow in each. */
  own: number;
  /** To the first token of a prompt as long that begins differently from all before it. */
  first_token_ms: number;
  shared_first_token_ms: number;
  /** Of the first to the second. */
  ratio: number;
}

/** All of it; memory in MB (2^20 bytes). */
export interface Served {
  model: string;
  quantization?: string;
  /** Tokens of a prompt, and of an answer. */
  prompt: number;
  tokens: number;
  /** What the server allocated on the GPU. */
  gpu_mb: number;
  rows: (Omit<LoadResult, "resident_bytes"> & {
    times_first_row: number;
    /** Most that the server's process had of the host's memory. */
    resident_mb: number;
    /** Whether an answer among the others was the one that was given alone. */
    answers_alike: boolean;
  })[];
  shared_prefix?: SharedPrefix;
}

export function printServed(
  { model, quantization = "none", prompt, tokens, gpu_mb, rows, shared_prefix }: Served,
): void {
  const weights = quantization === "none" ? "" : `, weights in ${quantization}`;
  printLine(
    `${model}${weights}: prompts of ${prompt} tokens, answers of ${tokens}, greedy; ` +
      `${gpu_mb.toFixed(0)} MB allocated on the GPU`,
  );
  const both = (spread: Spread | undefined, digits: number) =>
    spread ? `${spread.p50.toFixed(digits)} / ${spread.p99.toFixed(digits)}` : "none";
  const table = [
    [
      "clients",
      "tokens/s",
      "times",
      "first token ms",
      "a token ms",
      "between parts ms",
      "host MB",
      "alike",
    ],
    ...rows.map((row) => [
      `${row.clients}`,
      row.tokens_per_second.toFixed(0),
      row.times_first_row.toFixed(2),
      both(row.first_token_ms, 0),
      both(row.token_ms, 1),
      both(row.gap_ms, 1),
      row.resident_mb.toFixed(0),
      row.answers_alike ? "yes" : "no",
    ]),
  ];
  for (const line of tableLines(table, false)) printLine(line);
  printLine("Pairs of times are the median and the 99th percentile.");
  if (shared_prefix === undefined) return;
  const { prefix, own, first_token_ms, shared_first_token_ms, ratio } = shared_prefix;
  printLine(
    `First token of a prompt of ${prefix + own} tokens: ${
      first_token_ms.toFixed(1)
    } ms; where ${prefix} ` +
      `of them are known, ${shared_first_token_ms.toFixed(1)} ms (${ratio.toFixed(1)} times less)`,
  );
}
