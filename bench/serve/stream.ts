/**
 * One streamed answer as a client sees it, over HTTP.
 *
 * @module
 */
import { createParser } from "eventsource-parser";
import { z } from "zod";
import { UserError } from "../../kernels/errors.ts";
import { present } from "../../kernels/present.ts";
import { type Address, ask } from "./ask.ts";

/** What to ask of a server. */
export interface StreamRequest {
  readonly server: Address;
  /** The name that a model or an adapter has there. */
  readonly model: string;
  readonly prompt: readonly number[];
  /** Tokens of the answer: it has neither more nor fewer. */
  readonly tokens: number;
}

/** An answer, and when its parts came; times in milliseconds. */
export interface Streamed {
  readonly text: string;
  /** From the request to the first part. */
  readonly first: number;
  /** From the request to the end. */
  readonly whole: number;
  /** Between two parts, of which each has one token or several. */
  readonly gaps: readonly number[];
}

const eventSchema = z.object({
  error: z.object({ message: z.string() }).optional(),
  choices: z.array(z.object({ text: z.string(), finish_reason: z.string().nullable() })).default(
    [],
  ),
  usage: z.object({ completion_tokens: z.int() }).nullish(),
});

/** The events of a response, parsed as they come. */
async function* eventsOf(body: ReadableStream<Uint8Array>) {
  const events: string[] = [];
  const parser = createParser({ onEvent: ({ data }) => events.push(data) });
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const at = performance.now();
    parser.feed(text);
    for (const data of events.splice(0)) {
      if (data !== "[DONE]") yield { at, ...eventSchema.parse(JSON.parse(data)) };
    }
  }
}

/**
 * Asks for a greedy answer, and reads it to its end.
 *
 * @throws {UserError} where the server refuses, fails, or answers with another number of tokens.
 */
export async function streamAnswer(
  { server, model, prompt, tokens }: StreamRequest,
): Promise<Streamed> {
  const began = performance.now();
  const { body } = await ask(server, "/v1/completions", {
    model,
    prompt,
    max_tokens: tokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "", made = 0;
  const times: number[] = [];
  for await (
    const { at, error, choices, usage } of eventsOf(
      present(body ?? undefined, "body of the answer"),
    )
  ) {
    if (error !== undefined) throw new UserError(`the server failed: ${error.message}`);
    made = usage?.completion_tokens ?? made;
    for (const choice of choices) {
      text += choice.text;
      times.push(at - began);
    }
  }
  if (made !== tokens) {
    throw new UserError(`an answer had ${made} tokens where ${tokens} were asked for`);
  }
  const gaps = times.slice(1).map((time, i) => time - times[i]);
  return { text, first: times[0], whole: times[times.length - 1], gaps };
}
