/**
 * Plots as SVG: lines and points, alone or in panels side by side, stacked areas and stacked bars.
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
    mark,
    transform: [{ filter: { field: "name", oneOf: names } }],
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
        field: "name",
        type: "nominal",
        title: null,
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

/** A vertical line across a plot, with a word at its head. */
export interface Rule {
  x: number;
  label: string;
}

function ruleLayers(rules: readonly Rule[]) {
  const x = { field: "x", type: "quantitative" }, data = { values: rules };
  const text = { type: "text", align: "left", dx: 5, y: 8, fontSize: 13, color: "#333" };
  return [
    { data, mark: { type: "rule", strokeDash: [4, 3], color: "#333" }, encoding: { x } },
    { data, mark: text, encoding: { x, text: { field: "label" } } },
  ];
}

/** Values that add up, by what they are values of: areas over x, or bars. */
export interface Stack {
  /** What is added up, from the bottom: names and, for every place, a value each. */
  names: readonly string[];
  /** The numbers' axis. */
  title: string;
  /** Where that axis ends; without it, where the numbers do. */
  most?: number;
}

/** Stacked areas over x, level from each place to the next. */
export interface Areas extends Stack {
  xTitle: string;
  places: readonly { x: number; values: readonly number[] }[];
  rules?: readonly Rule[];
}

/** Stacked bars, one below the other. */
export interface Bars extends Stack {
  bars: readonly { label: string; values: readonly number[] }[];
}

/** Of a plot that stands alone: it may be shown on a phone, so letters are large for its width. */
const SINGLE = { width: 360, height: 200 };

const stackColor = (names: readonly string[]) => ({
  field: "name",
  type: "nominal",
  title: null,
  scale: { domain: names },
  legend: { orient: "top", labelLimit: 0, columns: 2 },
});

/** One plot of lines and points. */
export async function linePlot(panel: Panel, rules: readonly Rule[] = []): Promise<string> {
  const { layer, encoding, data } = panelSpec(panel);
  // Long names in one line would make the plot wider than a phone's screen.
  const legend = { ...encoding.color.legend, columns: 2 };
  const color = { ...encoding.color, legend };
  const layers = layer.map((part) => ({ ...part, data, encoding: { ...encoding, color } }));
  return await render({ ...SINGLE, layer: [...layers, ...ruleLayers(rules)] });
}

/** One plot of stacked areas. */
export async function areaPlot(areas: Areas): Promise<string> {
  const { names, title, most, xTitle, places, rules = [] } = areas;
  const values = places.flatMap(({ x, values }) =>
    values.map((y, order) => ({ x, y, order, name: names[order] }))
  );
  const scale = most === undefined ? {} : { domain: [0, most] };
  return await render({
    ...SINGLE,
    layer: [{
      data: { values },
      mark: { type: "area", interpolate: "step-after", opacity: 1 },
      encoding: {
        x: { field: "x", type: "quantitative", title: xTitle, scale: { nice: false } },
        y: { field: "y", type: "quantitative", title, stack: "zero", scale },
        color: stackColor(names),
        order: { field: "order" },
      },
    }, ...ruleLayers(rules)],
  });
}

/** One plot of stacked bars. */
export async function barPlot({ names, title, most, bars }: Bars): Promise<string> {
  const values = bars.flatMap(({ label, values }) =>
    values.map((x, order) => ({ label, x, order, name: names[order] }))
  );
  const scale = most === undefined ? {} : { domain: [0, most] };
  return await render({
    width: SINGLE.width - 120, // the labels' share
    height: { step: 18 },
    data: { values },
    mark: "bar",
    encoding: {
      x: { field: "x", type: "quantitative", title, stack: "zero", scale },
      y: { field: "label", type: "nominal", title: null, sort: null, axis: { labelLimit: 0 } },
      color: stackColor(names),
      order: { field: "order" },
    },
  });
}

/** The panels under one title. */
export async function linePlots(title: string, panels: readonly Panel[]): Promise<string> {
  return await render({
    title: { text: title, anchor: "start" },
    hconcat: panels.map(panelSpec),
    resolve: { scale: { color: "independent" } },
  });
}

/** Sizes of letters in all plots. */
const CONFIG = {
  axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal" },
  legend: { labelFontSize: 12 },
};

async function render(parts: Record<string, unknown>): Promise<string> {
  const spec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    config: CONFIG,
    ...parts,
  } as unknown as TopLevelSpec;
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
