/**
 * A run's memory, as a line of its configuration: nearly all of it is allocated before the first step, so that whoever
 * watches the run need not wait for summary.json.
 *
 * @module
 */
import { CATEGORIES, megabytes, type Memory } from "../../kernels/gpu/memory.ts";

/** Memory of a GPU in MB (10^6 bytes). */
export interface MemoryFigures {
  readonly total: number;
  readonly categories: Readonly<Record<string, number>>;
}

/** The most that was allocated so far. */
export function memoryFigures({ peak, peakTotal }: Memory): MemoryFigures {
  const round = (bytes: number) => Number(megabytes(bytes).toFixed(3));
  return {
    total: round(peakTotal),
    categories: Object.fromEntries(CATEGORIES.map((name) => [name, round(peak[name])])),
  };
}

/** The figures as a comment of YAML. */
export function memoryNote({ total, categories }: MemoryFigures): string {
  const parts = Object.entries(categories).map(([name, size]) => `${name} ${size}`);
  return `# GPU memory: ${total} MB (${parts.join(", ")})`;
}

/** The figures in a configuration's text; undefined where it has none. */
export function readMemoryNote(text: string): MemoryFigures | undefined {
  const [, total, parts] = /^# GPU memory: ([\d.]+) MB \(([a-z\d., ]*)\)$/m.exec(text) ?? [];
  if (total === undefined) return undefined;
  const sizes = [...parts.matchAll(/([a-z]+) ([\d.]+)/g)];
  return {
    total: Number(total),
    categories: Object.fromEntries(sizes.map(([, name, size]) => [name, Number(size)])),
  };
}
