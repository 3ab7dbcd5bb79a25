/**
 * The score of a query and a key as WGSL: scale · q·k, or that capped softly (softcap.ts) where a program has a cap.
 * Scales and caps are uniforms.
 *
 * @module
 */
import { softcapOf } from "../../wgsl/softcap.ts";

/** A WGSL expression of the score of a dot product. */
export function scoreOf(dots: string, softcap: boolean): string {
  return softcapOf(`${dots} * u.scale`, softcap);
}

/** The same times log₂ e, for `exp2` in place of `exp`. */
export function scoreForExp2(dots: string, softcap: boolean): string {
  return softcap
    ? `${scoreOf(dots, softcap)} * ${Math.LOG2E}`
    : `${dots} * (u.scale * ${Math.LOG2E})`;
}

/** A score in a gradient program. */
export interface ScoreAndSlope {
  /** Statements that the expressions need before them. */
  declare: string;
  score: string;
  /** The score times log₂ e. */
  forExp2: string;
  /** What a score's gradient is followed by to become that of scale · q·k. */
  slope: string;
}

/** WGSL of the score of a dot product and of its slope; `name`: of the variable that a capped one needs. */
export function scoreAndSlope(dots: string, softcap: boolean, name = "capped"): ScoreAndSlope {
  const score = scoreOf(dots, softcap);
  if (!softcap) return { declare: "", score, forExp2: scoreForExp2(dots, softcap), slope: "" };
  return {
    declare: `let ${name} = ${score};\n`,
    score: name,
    forExp2: `${name} * ${Math.LOG2E}`,
    slope: ` * softcap_slope(${name})`,
  };
}
