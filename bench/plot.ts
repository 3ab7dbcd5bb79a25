/**
 * Plots as SVG: lines and points, in panels side by side.
 *
 * @module
 */
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** A place in a plot. */
export interface Point {
  x: number;
  y: number;
}

/** One colour of a plot. */
export interface Series {
  name: string;
  points: readonly Point[];
  /** How it is drawn: points joined by a line (the default), points alone, or the line alone. */
  shape?: "both" | "points" | "line";
}

/** One plot; both axes are logarithmic where `logarithmic`. */
export interface Panel {
  xTitle: string;
  yTitle: string;
  series: readonly Series[];
  logarithmic?: boolean;
}

/** Of a panel, in pixels. */
const WIDTH = 560, HEIGHT = 320;

function panelSpec({ xTitle, yTitle, series, logarithmic = false }: Panel) {
  const scale = (base: number) => logarithmic ? { type: "log", base } : { zero: true };
  const drawn = (shapes: readonly Series["shape"][]) =>
    series.filter(({ shape = "both" }) => shapes.includes(shape)).map(({ name }) => name);
  const layer = (mark: unknown, names: readonly string[]) => ({
    ...{ mark, transform: [{ filter: { field: "name", oneOf: names } }] },
  });
  return {
    width: WIDTH,
    height: HEIGHT,
    data: {
      values: series.flatMap(({ name, points }) => points.map((point) => ({ ...point, name }))),
    },
    encoding: {
      x: { field: "x", type: "quantitative", title: xTitle, scale: scale(2) },
      y: { field: "y", type: "quantitative", title: yTitle, scale: scale(10) },
      color: {
        ...{ field: "name", type: "nominal", title: null },
        scale: { domain: series.map(({ name }) => name) },
        legend: { orient: "top", labelLimit: 0 },
      },
    },
    layer: [
      layer({ type: "line" }, drawn(["both", "line"])),
      layer({ type: "point", filled: true }, drawn(["both", "points"])),
    ],
  };
}

/** The panels under one title. */
export async function linePlots(title: string, panels: readonly Panel[]): Promise<string> {
  const spec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: title, anchor: "start" },
    background: "white",
    hconcat: panels.map(panelSpec),
    resolve: { scale: { color: "independent" } },
  } as unknown as TopLevelSpec;
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
