/**
 * Line plots as SVG.
 *
 * @module
 */
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** One line of a plot. */
export interface Series {
  name: string;
  points: readonly { x: number; y: number }[];
}

/** A plot with a line and points for each series; both axes are logarithmic where `logarithmic`. */
export async function linePlot(
  { title, xTitle, yTitle, series, logarithmic = false }: {
    title: string;
    xTitle: string;
    yTitle: string;
    series: readonly Series[];
    logarithmic?: boolean;
  },
): Promise<string> {
  const scale = logarithmic ? { type: "log", base: 2 } : { zero: true };
  const spec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    width: 560,
    height: 320,
    background: "white",
    data: {
      values: series.flatMap(({ name, points }) => points.map((point) => ({ ...point, name }))),
    },
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "x", type: "quantitative", title: xTitle, scale },
      y: {
        field: "y",
        type: "quantitative",
        title: yTitle,
        scale: logarithmic ? { type: "log", base: 10 } : scale,
      },
      color: { field: "name", type: "nominal", title: null, sort: null },
    },
  } as TopLevelSpec;
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
