/**
 * The formats of data that are known.
 *
 * @module
 */
import { ALPACA } from "./alpaca.ts";
import type { DataFormat } from "./format.ts";
import { MESSAGES } from "./messages.ts";
import { PROMPT_COMPLETION } from "./prompt_completion.ts";
import { SHAREGPT } from "./sharegpt.ts";
import { TEXT } from "./text.ts";

/** All of them; a row that two could be is in the first. */
export const DATA_FORMATS = [
  ALPACA,
  PROMPT_COMPLETION,
  MESSAGES,
  SHAREGPT,
  TEXT,
] as const satisfies readonly DataFormat[];
