/**
 * How runs are told apart on the page, and numbers for people.
 *
 * @module
 */

/** Colours of runs, told apart on light and on dark also by those who see few of them. */
const COLOURS = [
  "#0a7bc2",
  "#d9590b",
  "#10996f",
  "#c25a9a",
  "#a67c00",
  "#7a5fd0",
  "#c8434a",
  "#4c8a1d",
  "#1a9bab",
  "#8a7a72",
];
/** Lines of every tenth run. */
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

/** How a run's line is drawn. */
export interface LineStyle {
  readonly colour: string;
  /** Lengths of dashes and gaps in px; none for a whole line. */
  readonly dash: number[];
}

/** The line of a run, by its number. */
export function lineStyle(run: number): LineStyle {
  return {
    colour: COLOURS[run % COLOURS.length],
    dash: DASHES[Math.floor(run / COLOURS.length) % DASHES.length],
  };
}

/** A short piece of a run's line. */
export function swatch(run: number): SVGSVGElement {
  const { colour, dash } = lineStyle(run), namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const line = document.createElementNS(namespace, "line");
  const attributes = { x1: "0", x2: "100%", y1: "50%", y2: "50%", "stroke-width": "4" };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  line.setAttribute("stroke", colour);
  line.setAttribute("stroke-dasharray", dash.join(" "));
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

/** `1:05` or `2:03:10`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds)), two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A number in a few digits: `0.1234`, `1.5e-5`, `65536`, `1.234 M`. */
export function short(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e12) return value.toExponential(2);
  for (const [unit, letter] of [[1e9, " G"], [1e6, " M"]] as const) {
    if (size >= unit) return `${Number((value / unit).toPrecision(4))}${letter}`;
  }
  if (size > 0 && size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(size >= 1e4 ? 6 : 4)));
}
