/**
 * A chart of one metric, for all runs that are shown.
 *
 * @module
 */
import uPlot from "uplot";
import { element } from "../../../http/page/elements.ts";
import type { Axis, Curves, EvaluationPoint, Metric } from "./view.ts";
import { clock, lineStyle, short, swatch } from "./marks.ts";

const HEIGHT = 230, TALL = 300;
/** Share of the width that an arrow key moves by. */
const KEY_STEP = 0.02;

/** Seconds between names on an axis of time. */
const CLOCK_STEPS = [1, 2, 5, 10, 15, 30].flatMap((n) => [n, 60 * n])
  .concat([1, 2, 3, 6, 12, 24, 48, 96, 240, 480, 960].map((hours) => 3600 * hours))
  .sort((a, b) => a - b);

/** A run as charts show it. */
export interface ShownRun {
  readonly id: number;
  readonly name: string;
  readonly curves: Curves;
  readonly evaluations: readonly EvaluationPoint[];
}

/** What all charts show alike. */
export interface ChartView {
  readonly axis: Axis;
  /** First and last place; infinite for all. */
  readonly from: number;
  readonly to: number;
  readonly logarithmic: boolean;
}

/** What a person does with a chart. */
export interface ChartActions {
  zoomTo(from: number, to: number): void;
  /** `factor` of what is shown is to be shown. */
  zoomBy(factor: number): void;
  showAll(): void;
}

/** A metric's chart. */
export interface ChartKind {
  readonly metric: Metric;
  readonly title: string;
  readonly wide?: boolean;
  /** Whether a logarithmic scale does not suit it. */
  readonly linear?: boolean;
  /** Whether it is hidden while no run that is shown has the metric. */
  readonly optional?: boolean;
}

/** A line of the chart: which run's, and of what. */
interface Line {
  readonly run: ShownRun;
  readonly kind: "low" | "high" | "line" | "held-out";
}

type Values = (number | null | undefined)[];

/** Numbers as uPlot takes them: none is null. */
const values = (row: Float32Array): Values =>
  Array.from(row, (value) => Number.isFinite(value) ? value : null);

/** A place on an axis in words. */
export function placeText(axis: Axis, place: number): string {
  if (axis === "seconds") return clock(place);
  return `${axis === "step" ? "step" : "tokens"} ${short(Math.round(place))}`;
}

/** Whether an event begins or ends a selection. */
const isDrag = (type: string) => type === "mousedown" || type === "mouseup";

const colour = (name: string) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart in the page. */
export class Chart {
  readonly figure: HTMLElement;
  readonly #plotBox = element("div", { class: "plot", tabindex: "0", role: "slider" });
  readonly #readout = element("ul", { class: "readout" });
  #plot: uPlot | undefined;
  /** What the lines of the plot were made for; another one needs another plot. */
  #shape = "";
  #lines: Line[] = [];
  #view: ChartView = { axis: "step", from: -Infinity, to: Infinity, logarithmic: false };

  readonly #kind: ChartKind;
  readonly #actions: ChartActions;

  constructor(kind: ChartKind, actions: ChartActions) {
    this.#kind = kind;
    this.#actions = actions;
    const { metric, title, wide } = kind, id = `title-${metric}`;
    this.figure = element(
      "figure",
      { "aria-labelledby": id, class: wide ? "wide" : "", id: `chart-${metric}` },
      element("figcaption", { id }, title),
      this.#plotBox,
      this.#readout,
    );
    this.#plotBox.setAttribute("aria-describedby", "hint");
    this.#plotBox.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#fit()).observe(this.#plotBox);
  }

  /** Points that the chart has room for. */
  get width(): number {
    return this.#plotBox.clientWidth;
  }

  /** Shows runs. */
  show(runs: readonly ShownRun[], view: ChartView): void {
    this.#view = view;
    const { axis, logarithmic } = view, { metric, optional = false } = this.#kind;
    this.figure.hidden = optional &&
      !runs.some(({ curves }) => curves.metrics[metric].line.some(Number.isFinite));
    if (this.figure.hidden) return;
    const lines: Line[] = [], tables: uPlot.AlignedData[] = [];
    for (const run of runs) {
      const { x, metrics: { [metric]: { low, high, line } } } = run.curves;
      tables.push([Array.from(x), values(low), values(high), values(line)]);
      lines.push({ run, kind: "low" }, { run, kind: "high" }, { run, kind: "line" });
      if (metric !== "loss" || run.evaluations.length === 0) continue;
      const { evaluations } = run;
      tables.push([evaluations.map((point) => point[axis]), evaluations.map(({ loss }) => loss)]);
      lines.push({ run, kind: "held-out" });
    }
    this.#lines = lines;
    const data = tables.length > 0 ? uPlot.join(tables) : [[]] as uPlot.AlignedData;
    const shape = JSON.stringify([
      lines.map(({ run, kind }) => [run.id, kind]),
      axis,
      logarithmic,
      colour("--text"),
    ]);
    if (this.#plot !== undefined && shape === this.#shape) {
      this.#plot.setData(data);
    } else {
      this.#plot?.destroy();
      this.#shape = shape;
      this.#plot = new uPlot(this.#options(), data, this.#plotBox);
    }
    this.#read();
  }

  #options(): uPlot.Options {
    const { axis, logarithmic } = this.#view, { linear = false, title, wide } = this.#kind;
    const ink = colour("--quiet"), card = colour("--card");
    const grid = { stroke: colour("--grid"), width: 1 };
    const bands: uPlot.Band[] = [];
    const series = this.#lines.map(({ run, kind }, i): uPlot.Series => {
      const { colour, dash } = lineStyle(run.id);
      if (kind === "high") bands.push({ series: [i + 1, i], fill: `${colour}22` });
      if (kind === "held-out") {
        const points = { show: true, size: 7, fill: card };
        return { stroke: colour, width: 1, dash: [3, 3], points };
      }
      const faint = kind !== "line";
      return {
        stroke: faint ? `${colour}55` : colour,
        width: faint ? 1 : 2,
        dash: faint ? [] : dash,
        points: { show: faint ? false : undefined },
      };
    });
    return {
      width: this.width || 300,
      height: wide ? TALL : HEIGHT,
      legend: { show: false },
      cursor: {
        // Others follow the cursor, and are not selected in: all are zoomed together.
        sync: {
          key: "runs",
          filters: { pub: (type) => type.startsWith("mouse") && !isDrag(type) },
        },
        drag: { x: true, y: false, setScale: false },
        points: { show: false },
        bind: { dblclick: () => () => (this.#actions.showAll(), null) },
      },
      scales: {
        x: { time: false, range: (_, least, most) => this.#range(least, most) },
        y: { distr: logarithmic && !linear ? 3 : 1 },
      },
      axes: [
        {
          stroke: ink,
          grid,
          space: 80,
          ...(axis === "seconds" ? { incrs: CLOCK_STEPS } : {}),
          values: (_, splits) =>
            splits.map((value) => axis === "seconds" ? clock(value) : short(value)),
        },
        {
          stroke: ink,
          grid,
          size: 64,
          // A logarithmic axis names only some of its lines.
          values: (_, splits) => splits.map((value) => value === null ? "" : short(value)),
        },
      ],
      series: [{}, ...series],
      bands,
      hooks: {
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width < 5) return;
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.#actions.zoomTo(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
        }],
        setCursor: [() => this.#read()],
        ready: [(plot) => plot.root.setAttribute("aria-label", title)],
      },
    };
  }

  #range(least: number | null, most: number | null): [number, number] {
    const { from, to } = this.#view;
    const first = Number.isFinite(from) ? from : least ?? 0;
    const last = Number.isFinite(to) ? to : most ?? 1;
    return first < last ? [first, last] : [first - 1, first + 1];
  }

  #fit(): void {
    const width = this.#plotBox.clientWidth;
    if (this.#plot === undefined || width === 0 || width === this.#plot.width) return;
    this.#plot.setSize({ width, height: this.#plot.height });
  }

  /** The value of a line nearest to a place. */
  #valueAt(line: number, place: number): number | undefined {
    const plot = this.#plot;
    if (plot === undefined) return undefined;
    const x = plot.data[0], row = plot.data[line + 1];
    let found: number | undefined, distance = Infinity;
    const start = plot.valToIdx(place);
    for (const step of [-1, 1]) {
      for (let i = start; i >= 0 && i < x.length; i += step) {
        const value = row[i];
        if (typeof value !== "number") continue;
        if (Math.abs(x[i] - place) < distance) {
          distance = Math.abs(x[i] - place);
          found = value;
        }
        break;
      }
    }
    return found;
  }

  /** Writes the values at the cursor, or the last ones, below the chart. */
  #read(): void {
    const plot = this.#plot;
    if (plot === undefined) return;
    const { left } = plot.cursor, places = plot.data[0];
    const points = left !== undefined && left >= 0;
    const place = points ? plot.posToVal(left, "x") : places.at(-1) ?? 0;
    const where = points ? placeText(this.#view.axis, place) : "Last";
    const entries = this.#lines.flatMap(({ run, kind }, i) => {
      if (kind === "low" || kind === "high") return [];
      const value = this.#valueAt(i, place);
      const name = kind === "held-out" ? `${run.name}, held out` : run.name;
      return value === undefined ? [] : [{ run, text: `${name} ${short(value)}` }];
    });
    this.#readout.replaceChildren(
      element("li", {}, where),
      ...entries.map(({ run, text }) => element("li", {}, swatch(run.id), text)),
    );
    const first = places[0] ?? 0, last = places.at(-1) ?? 0;
    const words = `${where}: ${entries.map(({ text }) => text).join(", ") || "no values"}`;
    const attributes = {
      "aria-label": this.#kind.title,
      "aria-valuemin": String(first),
      "aria-valuemax": String(last),
      "aria-valuenow": String(Math.min(last, Math.max(first, place))),
      "aria-valuetext": words,
    };
    for (const [name, value] of Object.entries(attributes)) {
      this.#plotBox.setAttribute(name, value);
    }
  }

  #key(event: KeyboardEvent): void {
    const plot = this.#plot;
    if (plot === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = plot.over.getBoundingClientRect();
    const { left = -1 } = plot.cursor, at = left < 0 ? width : left;
    const moves: Record<string, number> = {
      ArrowLeft: at - KEY_STEP * width,
      ArrowRight: at + KEY_STEP * width,
      Home: 0,
      End: width,
    };
    const actions: Record<string, () => void> = {
      "+": () => this.#actions.zoomBy(0.5),
      "=": () => this.#actions.zoomBy(0.5),
      "-": () => this.#actions.zoomBy(2),
      "0": () => this.#actions.showAll(),
    };
    if (event.key in moves) {
      const place = Math.min(width, Math.max(0, moves[event.key]));
      plot.setCursor({ left: place, top: height / 2 });
    } else if (event.key in actions) actions[event.key]();
    else return;
    event.preventDefault();
  }
}
