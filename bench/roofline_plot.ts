/**
 * The roofline plot: speed against arithmetic intensity, with the roofs of bandwidth and of arithmetic.
 *
 * @module
 */
import type { KernelRow } from "./kernel_case.ts";
import type { Point } from "./plot.ts";

/** A kernel's place: operations a byte, and TFLOP/s. */
function place({ flops, bytes, tflops_per_second }: KernelRow): Point {
  return { x: flops / bytes, y: tflops_per_second };
}

/** A panel a dtype: the roof as a line, and every kernel as a point. */
export async function plotRoofline(
  path: string,
  title: string,
  rows: readonly KernelRow[],
  bandwidth: number,
): Promise<void> {
  const { linePlots } = await import("./plot.ts");
  const panels = [...new Set(rows.map(({ dtype }) => dtype))].map((dtype) => {
    const own = rows.filter((row) => row.dtype === dtype);
    const peak = Math.max(
      ...own.filter(({ name }) => name.startsWith("matmul")).map((row) => row.tflops_per_second),
    );
    const places = own.map(place), ridge = 1e12 * peak / bandwidth;
    const ends = [Math.min(...places.map(({ x }) => x)), Math.max(...places.map(({ x }) => x))];
    const roof = [ends[0], ridge, Math.max(ends[1], ridge)]
      .map((x) => ({ x, y: Math.min(peak, x * bandwidth / 1e12) }));
    const kinds = [...new Set(own.map(({ name }) => name.split(" ")[0]))];
    return {
      xTitle: `floating-point operations a byte (${dtype})`,
      yTitle: "TFLOP/s",
      logarithmic: true,
      series: [
        { name: "roof", points: roof, shape: "line" as const },
        ...kinds.map((kind) => ({
          name: kind,
          points: own.filter(({ name }) => name.split(" ")[0] === kind).map(place),
          shape: "points" as const,
        })),
      ],
    };
  });
  await Deno.writeTextFile(path, await linePlots(`Roofline: ${title}`, panels));
}
