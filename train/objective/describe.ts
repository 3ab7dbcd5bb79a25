/**
 * An objective's figures for people.
 *
 * @module
 */
import type { FigureName } from "./objective.ts";

/** How often the better answer is found better and by how much; undefined where no preference is learnt. */
export function describeFigures(
  { rewards_accuracies: accuracy, rewards_margins: margin }: Partial<
    Record<FigureName, number | null>
  >,
): string | undefined {
  if (accuracy === undefined) return undefined;
  const shown = (value: number | null | undefined, digits: number) =>
    (value ?? NaN).toFixed(digits);
  return `accuracy ${shown(accuracy, 3)}, margin ${shown(margin, 3)}`;
}
