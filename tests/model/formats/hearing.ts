import { openHuggingFace } from "../../../model/formats/huggingface.ts";
import type { WeightSource } from "../../../model/formats/weights.ts";

/** Opens a folder, with what is said on stderr. */
export function openHearing(folder: string): { source: WeightSource; said: string[] } {
  const said: string[] = [], { error } = console;
  console.error = (line: string) => void said.push(line);
  try {
    return { source: openHuggingFace(folder), said };
  } finally {
    console.error = error;
  }
}
