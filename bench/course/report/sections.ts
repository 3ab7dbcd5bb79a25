/**
 * From measurements to what a report says about them.
 *
 * @module
 */
import { present } from "../../../kernels/present.ts";
import { CATEGORIES } from "../../../kernels/gpu/memory.ts";
import { type ModelConfig, weightShapes } from "../../../model/families/config.ts";
import { adapterShapes } from "../../../model/adapter/adapter_folder.ts";
import { isLinearModule, LINEAR_MODULES } from "../../../model/families/linear_modules.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { areaPlot, barPlot, linePlot, type Panel, type Point } from "../../plot.ts";
import { table1Cells, table1Subject } from "../table1.ts";
import type { Table2, Table2Row } from "../table2.ts";
import { courseRows, longRows } from "../table2_lines.ts";
import { type Timeline, type TimelinePoint, totalMemory } from "../timeline.ts";
import { figure, plain, type Plot, type Report, table } from "./markdown.ts";
import type { Results } from "./results.ts";

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

const MODES = ["none", "block"] as const;
const modeName = (mode: string) => mode === "none" ? "off" : "on, every block";

function table1Part({ table1 }: Results): string[] {
  const { arrows, numbers: both } = table1Cells(table1);
  return [
    "## What each technique does",
    plain(table1Subject(table1)),
    table("words", "Table 1: what one technique alone changes; − is no change.", arrows),
    table("words", "The numbers behind it: without the technique, then with it.", both),
  ];
}

function table2Part(table2: Table2): string[] {
  const tables = MODES.map((mode) =>
    table(
      "numbers",
      `Table 2, gradient checkpointing ${
        modeName(mode)
      }. GA: gradient accumulation over 8 samples, MP: ` +
        "mixed precision; × does not fit.",
      courseRows(table2.rows.filter(({ checkpointing }) => checkpointing === mode)),
    )
  );
  return [
    "## Memory and time of every combination of techniques",
    plain(
      `Instruction tuning of ${table2.model} on ${table2.samples} samples` +
        (table2.tokens === undefined ? "" : ` (${table2.tokens} tokens)`) +
        ", batch 1. Every run is a process of its own; memory is the most that was allocated on the GPU, " +
        "in MB of 2^20 bytes, and time is that of all optimizer steps without loading and compiling.",
    ),
    ...tables,
    table("numbers", "All runs.", longRows(table2.rows)),
  ];
}

const techniques = (row: Table2Row) =>
  [
    row.gradient_accumulation && "GA",
    row.mixed_precision && "MP",
    row.lora && "LoRA",
    row.optimizer === "sgd" && "SGD",
  ].filter((name) => name !== false).join(" + ") || "none";

async function memoryPart({ rows }: Table2): Promise<string[]> {
  const values = (row: Table2Row) => CATEGORIES.map((category) => row.memory_mb[category]);
  const most = Math.max(...rows.map((row) => values(row).reduce((sum, value) => sum + value)));
  const plots = await Promise.all(MODES.map(async (mode) => {
    const own = rows.filter(({ checkpointing }) => checkpointing === mode);
    const bars = own.map((row) => ({
      label: techniques(row) + (row.fits ? "" : " ×"),
      values: values(row),
    }));
    const svg = await barPlot({
      names: CATEGORIES,
      title: `MB, checkpointing ${mode === "none" ? "off" : "on"}`,
      bars,
      most,
    });
    return { svg, alt: `Stacked bars of memory by category, checkpointing ${modeName(mode)}` };
  }));
  return [
    "## Where the memory goes",
    figure(
      "Memory by category for the techniques that are on. A bar with × is what a run would need that does not fit.",
      ...plots,
    ),
  ];
}

/** Samples whose losses make one point of a curve. */
const GROUP = 8;

/** Means of groups of losses, each at its last sample. */
export function lossPoints(losses: readonly number[]): Point[] {
  const groups = Array.from(
    { length: Math.ceil(losses.length / GROUP) },
    (_, i) => losses.slice(i * GROUP, (i + 1) * GROUP),
  );
  return groups.map((group, i) => ({ x: i * GROUP + group.length, y: mean(group) }));
}

async function lossPart({ table2: { rows }, training }: Results): Promise<string[]> {
  const plots = await Promise.all([false, true].map(async (accumulated) => {
    const own = rows.filter((row) =>
      row.checkpointing === "none" && row.gradient_accumulation === accumulated
    );
    const how = accumulated ? "an update for 8 samples" : "an update for each sample";
    const series = own.flatMap(({ losses, mixed_precision, lora }) =>
      losses === undefined ? [] : [{
        name: `${mixed_precision ? "mixed" : "fp32"}, ${lora ? "LoRA" : "all weights"}`,
        points: lossPoints(losses),
      }]
    );
    const svg = await linePlot({ xTitle: `samples, ${how}`, yTitle: "loss", series });
    return { svg, alt: `Loss against samples, ${how}` };
  }));
  const points = training.losses.map((y, i) => ({ x: i + 1, y }));
  const svg = await linePlot({
    xTitle: "optimizer step",
    yTitle: "loss",
    series: [{ name: training.model, points, shape: "line" }],
  });
  return [
    "## Loss",
    figure(
      `Means over ${GROUP} samples in the runs of table 2 without checkpointing, which does not change them. ` +
        "Where curves lie on one another, precision makes no difference that can be seen.",
      ...plots,
    ),
    figure(
      `Fine-tuning ${training.model} with LoRA (${
        training.trainable_percent.toFixed(2)
      } % of all parameters), ` +
        `${training.losses.length} steps in ${training.seconds.toFixed(1)} s.`,
      { svg, alt: "Loss of each optimizer step of the fine-tuning run" },
    ),
  ];
}

/** Points of a plot at most. */
const POINTS = 300;

/** Of every few launches that at which most is in use. */
export function thinned(points: readonly TimelinePoint[]): TimelinePoint[] {
  const size = Math.ceil(points.length / POINTS);
  return Array.from(
    { length: Math.ceil(points.length / size) },
    (_, i) =>
      points.slice(i * size, (i + 1) * size)
        .reduce((a, b) => totalMemory(b) > totalMemory(a) ? b : a),
  );
}

/** What a step's blow-up is made of. */
const CHANGING = ["activation", "gradient"] as const;

const passOf = ({ inference, checkpointing }: Timeline) =>
  inference
    ? "inference"
    : checkpointing === "none"
    ? "without checkpointing"
    : "checkpointing every block";

/** Where the axis of the timelines ends, in what is most in use: the loss is marked above that. */
const ROOM = 1.1;

async function timelinePart({ timelines, deep }: Results): Promise<string[]> {
  const values = ({ memory_mb }: TimelinePoint) => CHANGING.map((category) => memory_mb[category]);
  const total = (point: TimelinePoint) => values(point).reduce((sum, value) => sum + value);
  const most = Math.max(...timelines.flatMap(({ points }) => points.map(total)));
  const plots = await Promise.all(timelines.map(async (timeline) => {
    const { points } = timeline, pass = passOf(timeline);
    const backward = points.find(({ phase }) => phase === "backward");
    const svg = await areaPlot({
      names: CHANGING,
      title: "MB in use",
      most: ROOM * most,
      xTitle: `launch, ${pass}`,
      places: thinned(points).map((point) => ({ x: point.launch, values: values(point) })),
      rules: backward ? [{ x: backward.launch, label: "loss" }] : [],
    });
    return { svg, alt: `Memory in use over the launches of a step, ${pass}` };
  }));
  const peaks = timelines.map((timeline) => [
    passOf(timeline),
    Math.max(...timeline.points.map(total)).toFixed(2),
    timeline.peak_mb.toFixed(2),
    timeline.allocated_mb.toFixed(2),
    `${timeline.points.length}`,
  ]);
  return [
    "## Memory over one step",
    plain(
      "In the forward pass of training, activations pile up, since the backward pass needs them: most is in use " +
        "when the loss is known. With checkpointing only the input of every block is kept and its inside is " +
        "computed again. A pass of inference forgets each block's activations when the next block has run.",
    ),
    figure(
      `Memory that holds values still needed, after each launch: ${deep.model}, ${deep.blocks} blocks, ` +
        `${deep.tokens} tokens. Parameters, optimizer state and workspace are left out.`,
      ...plots,
    ),
    table("numbers", "Most in use at one time, in MB.", [
      ["pass", "activations and gradients", "all", "allocated", "launches"],
      ...peaks,
    ]),
  ];
}

async function lengthPart({ scaling, table2: { model } }: Results): Promise<string[]> {
  const ends = [0, -1].map((end) => present(scaling.rows.at(end), "measured length").tokens);
  const plot = async (field: "seconds" | "memory_mb", yTitle: string): Promise<Plot> => {
    const { slope, intercept, r2 } = field === "seconds" ? scaling.seconds_fit : scaling.memory_fit;
    const svg = await linePlot({
      xTitle: "tokens in a step",
      yTitle,
      series: [
        {
          name: "measured",
          points: scaling.rows.map((row) => ({ x: row.tokens, y: row[field] })),
          shape: "points",
        },
        {
          name: `straight line, R² = ${r2.toFixed(4)}`,
          points: ends.map((x) => ({ x, y: intercept + slope * x })),
          shape: "line",
        },
      ],
    });
    return { svg, alt: `${yTitle} against tokens in a step` };
  };
  return [
    "## Time and memory against sequence length",
    figure(
      `Training steps of ${model} with LoRA in mixed precision, one packed row of so many tokens a step.`,
      await plot("seconds", "seconds a step"),
      await plot("memory_mb", "memory, MB"),
    ),
    table("numbers", "The same in numbers.", [
      ["tokens", "ms a step", "tokens/s", "memory (MB)"],
      ...scaling.rows.map((row) => [
        `${row.tokens}`,
        (1000 * row.seconds).toFixed(1),
        row.tokens_per_second.toFixed(0),
        row.memory_mb.toFixed(1),
      ]),
    ]),
  ];
}

async function intervalPart({ intervals, deep }: Results): Promise<string[]> {
  const root = Math.sqrt(deep.blocks);
  const plot = async (field: "seconds" | "memory_mb", yTitle: string): Promise<Plot> => {
    const points = intervals.map((row) => ({ x: row.k, y: row[field] }));
    const panel: Panel = {
      xTitle: "checkpoint interval k, blocks",
      yTitle,
      series: [{ name: `${deep.blocks} blocks`, points }],
    };
    const svg = await linePlot(panel, [{ x: root, label: `√n = ${Number(root.toFixed(2))}` }]);
    return { svg, alt: `${yTitle} against checkpoint interval, √n marked` };
  };
  const least = intervals.reduce((a, b) => b.memory_mb < a.memory_mb ? b : a);
  return [
    "## Time and memory against checkpoint interval",
    plain(
      "With the input of every k-th block kept, n/k inputs and the insides of k blocks are in memory at once. " +
        "If both took as much a block, k = √n would be best; the inside of a block takes several times its " +
        "input, so that a smaller k needs less.",
    ),
    figure(
      `Steps of ${deep.tokens} tokens, ${deep.model}. Least memory here: k = ${least.k}.`,
      await plot("memory_mb", "memory, MB"),
      await plot("seconds", "seconds a step"),
    ),
    table("numbers", "The same in numbers.", [
      ["k", "memory (MB)", "ms a step"],
      ...intervals.map((
        row,
      ) => [`${row.k}`, row.memory_mb.toFixed(2), (1000 * row.seconds).toFixed(1)]),
    ]),
  ];
}

const count = (shapes: Map<string, number[]>) =>
  [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0);

/** Share of the parameters that LoRA trains, in percent, for ranks 1 to 256. */
export function loraShares(
  config: ModelConfig,
  targets: readonly string[],
): { rank: number; percent: number }[] {
  const weights = count(weightShapes(config));
  const target_modules = targets.filter(isLinearModule);
  return Array.from({ length: 9 }, (_, i) => {
    const rank = 2 ** i, trained = count(adapterShapes(config, { r: rank, target_modules }));
    return { rank, percent: 100 * trained / (weights + trained) };
  });
}

async function rankPart({ table2: { model }, layers }: Results): Promise<string[]> {
  const { config } = openModel(model, layers);
  const blocks = layers === 1 ? "block" : `${layers} blocks`;
  const what = layers === undefined ? model : `the first ${blocks} of ${model}`;
  const two = loraShares(config, ["q_proj", "v_proj"]);
  const all = loraShares(config, Object.keys(LINEAR_MODULES));
  const points = (shares: typeof two) =>
    shares.map(({ rank, percent }) => ({ x: rank, y: percent }));
  const svg = await linePlot({
    xTitle: "LoRA rank",
    yTitle: "trainable parameters, %",
    logarithmic: true,
    series: [{ name: "q and v", points: points(two) }, { name: "all seven", points: points(all) }],
  });
  return [
    "## LoRA rank against trainable parameters",
    figure(
      `Counted for ${what}, adapters on the query and value projections or on all seven linear layers.`,
      {
        svg,
        alt: "Trainable percentage against LoRA rank, both axes logarithmic",
      },
    ),
    table("numbers", "Trainable parameters in percent of all, adapters included.", [
      ["rank", "q and v", "all seven"],
      ...two.map((
        { rank, percent },
        i,
      ) => [`${rank}`, percent.toFixed(4), all[i].percent.toFixed(4)]),
    ]),
  ];
}

function answersPart({ answers, training }: Results): string[] {
  return [
    "## Answers before and after fine-tuning",
    table(
      "words",
      `${training.model}, greedy; the prompts are not among the samples it was trained on.`,
      [
        ["prompt", "expected", "before", "after"],
        ...answers.map(({ prompt, expected, before, after }) => [prompt, expected, before, after]),
      ],
    ),
  ];
}

function machinePart({ table2: { device, lorikeet, provider }, commands }: Results): string[] {
  const { gpu, software, driver, available_mb } = device;
  return [
    "## Hardware, versions and commands",
    [
      `GPU: ${gpu}${software ? " (a software driver: no GPU)" : ""}`,
      `WebGPU provider: ${provider}; ${device.reason}`,
      ...(driver === undefined ? [] : [`Driver: ${driver}`]),
      ...(available_mb === undefined
        ? []
        : [`Memory that can be allocated: ${available_mb.toFixed(0)} MB`]),
      `Lorikeet ${lorikeet}, Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`,
    ].map((item) => `- ${plain(item)}`).join("\n"),
    plain(
      "Tables 1 and 2 are of ./lorikeet bench table1 and bench table2; the rest is of these commands:",
    ),
    commands.join("\n").replaceAll(/^/gm, "    "),
  ];
}

/** The report of these measurements. */
export async function reportOf(results: Results): Promise<Report> {
  const { table2: table } = results;
  return {
    title: "Fine-tuning on a single GPU: measurements",
    subtitle: `${table.model} on ${table.gpu}, Lorikeet ${table.lorikeet}`,
    sections: [
      table1Part(results),
      table2Part(table),
      await memoryPart(table),
      await lossPart(results),
      await timelinePart(results),
      await lengthPart(results),
      await intervalPart(results),
      await rankPart(results),
      answersPart(results),
      machinePart(results),
    ],
  };
}
