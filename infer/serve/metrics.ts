/**
 * What a server counts, as Prometheus reads it (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * @module
 */

/** Upper ends of the buckets of times, in seconds. */
const BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Times by buckets. */
class Histogram {
  readonly #counts: number[] = Array(BUCKETS.length).fill(0);
  #sum = 0;
  #count = 0;

  add(seconds: number): void {
    this.#sum += seconds;
    this.#count++;
    BUCKETS.forEach((end, i) => {
      if (seconds <= end) this.#counts[i]++;
    });
  }

  lines(name: string): string[] {
    return [
      ...BUCKETS.map((end, i) => `${name}_bucket{le="${end}"} ${this.#counts[i]}`),
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ];
  }
}

/** Counts and times since the server began. */
export class Metrics {
  /** Answers to requests, by path and status. */
  readonly #requests = new Map<string, number>();
  promptTokens = 0;
  answerTokens = 0;
  /** What was allocated on the GPU, in bytes. */
  gpuBytes = 0;
  readonly firstToken: Histogram = new Histogram();

  /** @param paths Those that are counted each; all others count as one, since anyone can ask for any. */
  constructor(readonly paths: readonly string[]) {}

  /** Counts an answer. */
  answered(path: string, status: number): void {
    const key = `path="${this.paths.includes(path) ? path : "other"}",status="${status}"`;
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1);
  }

  /** All of it, with how many sequences there are now. */
  text({ running, waiting }: { running: number; waiting: number }): string {
    const metric = (name: string, type: string, help: string, lines: string[]) => [
      `# HELP lorikeet_${name} ${help}`,
      `# TYPE lorikeet_${name} ${type}`,
      ...lines,
    ];
    const one = (name: string, value: number) => [`lorikeet_${name} ${value}`];
    const requests = Array.from(
      this.#requests,
      ([labels, count]) => `lorikeet_requests_total{${labels}} ${count}`,
    );
    return [
      ...metric("requests_total", "counter", "Requests that were answered.", requests),
      ...metric("answers_running", "gauge", "Answers being made.", one("answers_running", running)),
      ...metric("answers_waiting", "gauge", "Answers that wait.", one("answers_waiting", waiting)),
      ...metric(
        "prompt_tokens_total",
        "counter",
        "Tokens of prompts.",
        one("prompt_tokens_total", this.promptTokens),
      ),
      ...metric(
        "answer_tokens_total",
        "counter",
        "Tokens of answers.",
        one("answer_tokens_total", this.answerTokens),
      ),
      ...metric(
        "gpu_memory_bytes",
        "gauge",
        "Memory that was allocated on the GPU.",
        one("gpu_memory_bytes", this.gpuBytes),
      ),
      // This name is Prometheus' own.
      "# HELP process_resident_memory_bytes Resident memory size in bytes.",
      "# TYPE process_resident_memory_bytes gauge",
      `process_resident_memory_bytes ${Deno.memoryUsage().rss}`,
      ...metric(
        "first_token_seconds",
        "histogram",
        "Time from a request to the first token of an answer.",
        this.firstToken.lines("lorikeet_first_token_seconds"),
      ),
      "",
    ].join("\n");
  }
}
