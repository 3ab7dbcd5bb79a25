/** Folders of runs as tests of the page need them. */
import { join } from "node:path";

/** A line of metrics.jsonl, its numbers made of the step's. */
export function metricsLine(step: number, more: Record<string, unknown> = {}): string {
  return JSON.stringify({
    step,
    epoch: step / 100,
    loss: 1 + 1 / step,
    losses: [1, 1 + 2 / step],
    learning_rate: 1e-4,
    grad_norm: 0.5,
    loss_scale: 65536,
    skipped: false,
    tokens: 100,
    seconds: 0.25,
    ...more,
  }) + "\n";
}

/** The lines of the steps from `first` to `last`. */
export function metricsLines(first: number, last: number): string {
  let text = "";
  for (let step = first; step <= last; step++) text += metricsLine(step);
  return text;
}

/** Makes a run's folder with these files in it, by their names. */
export function makeRun(folder: string, files: Readonly<Record<string, string>>): string {
  Deno.mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    Deno.writeTextFileSync(join(folder, name), text);
  }
  return folder;
}

/** Calls `body` with a folder that is gone afterwards. */
export async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    await body(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}
