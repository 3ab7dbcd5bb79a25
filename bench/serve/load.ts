/**
 * Many clients at once, each of which asks for one answer after the other.
 *
 * @module
 */
import { quantile } from "./quantile.ts";
import type { Address } from "./ask.ts";
import { memoryOf } from "./server.ts";
import { streamAnswer, type Streamed } from "./stream.ts";

/** What clients ask. */
export interface LoadRequest {
  readonly clients: number;
  /** Answers that each of them asks for. */
  readonly rounds: number;
  readonly tokens: number;
  /** Names to ask for in turn. */
  readonly models: readonly string[];
  /** Another prompt each time. */
  readonly prompt: () => number[];
}

/** Quantiles of times in milliseconds. */
export interface Spread {
  p50: number;
  p99: number;
}

/** What a load came to. */
export interface LoadResult {
  clients: number;
  answers: number;
  seconds: number;
  /** Of all answers together. */
  tokens_per_second: number;
  /** From a request to the first part of its answer. */
  first_token_ms: Spread;
  /** From the first part to the end of an answer, by its tokens after the first one. */
  token_ms: Spread;
  /** Between two parts of an answer; absent where all came at once. */
  gap_ms?: Spread;
  /** Most that the server's process had of the host's memory, in bytes. */
  resident_bytes: number;
}

/** Milliseconds between looks at the server's memory. */
const INTERVAL = 500;

const spreadOf = (values: readonly number[]): Spread => ({
  p50: quantile(values, 0.5),
  p99: quantile(values, 0.99),
});

/** Looks at the server's memory until it is told to stop. @returns the most that it saw, in bytes. */
function watchMemory(server: Address): () => Promise<number> {
  let most = 0, looking = Promise.resolve();
  const look = async () => {
    // One that is not answered counts for nothing: where the server has ended, its answers tell.
    const resident = await memoryOf(server).then(({ resident }) => resident, () => 0);
    most = Math.max(most, resident);
  };
  const timer = setInterval(() => looking = look(), INTERVAL);
  return async () => {
    clearInterval(timer);
    await looking;
    await look();
    return most;
  };
}

/** Puts a load on a server. @throws as {@linkcode streamAnswer} does. */
export async function loadServer(
  server: Address,
  { clients, rounds, tokens, models, prompt }: LoadRequest,
): Promise<LoadResult> {
  const answers: Streamed[] = [], stopWatching = watchMemory(server);
  const prompts = Array.from({ length: clients * rounds }, prompt);
  const began = performance.now();
  const ask = async (client: number) => {
    const model = models[client % models.length];
    for (let round = 0; round < rounds; round++) {
      const request = { server, model, prompt: prompts[round * clients + client], tokens };
      answers.push(await streamAnswer(request));
    }
  };
  let seconds = 0, resident_bytes = 0;
  try {
    await Promise.all(Array.from({ length: clients }, (_, client) => ask(client)));
    seconds = (performance.now() - began) / 1000;
  } finally {
    resident_bytes = await stopWatching();
  }
  const gaps = answers.flatMap(({ gaps }) => gaps);
  return {
    clients,
    answers: answers.length,
    seconds,
    tokens_per_second: answers.length * tokens / seconds,
    first_token_ms: spreadOf(answers.map(({ first }) => first)),
    token_ms: spreadOf(answers.map(({ first, whole }) => (whole - first) / (tokens - 1))),
    gap_ms: gaps.length > 0 ? spreadOf(gaps) : undefined,
    resident_bytes,
  };
}
