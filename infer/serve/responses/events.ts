/**
 * A response as it comes to be: events, each with its type and number, whose last has the whole of it
 * (https://platform.openai.com/docs/api-reference/responses-streaming).
 *
 * @module
 */
import type { Answers } from "../answering.ts";
import type { ToolCall, ToolText } from "../tools.ts";
import type { ResponsesRequest } from "./request.ts";

/** An event. */
export interface ResponseEvent {
  readonly type: string;
  readonly sequence_number: number;
  /** The response so far, of some events. */
  readonly response?: unknown;
}

const newId = (kind: string) => `${kind}_${crypto.randomUUID().replaceAll("-", "")}`;

/** A message of the output, as it is so far. */
class MessageItem {
  readonly id: string = newId("msg");
  text = "";
  status: "in_progress" | "completed" | "incomplete" = "in_progress";

  get part() {
    return { type: "output_text", text: this.text, annotations: [], logprobs: [] };
  }

  get item() {
    const { id, status } = this, content = status === "in_progress" ? [] : [this.part];
    return { id, type: "message", role: "assistant", status, content };
  }
}

/** A call of a function as an item of the output. */
function callItem({ id: call_id, function: { name, arguments: json } }: ToolCall) {
  const id = newId("fc");
  const at = (status: string, json: string) => {
    return { id, type: "function_call", status, call_id, name, arguments: json };
  };
  return { id, name, json, begun: at("in_progress", ""), item: at("completed", json) };
}

/** What a response says besides its output and how far it is. */
function frameOf(request: ResponsesRequest) {
  const { model, instructions, max_output_tokens, temperature, top_p, text } = request;
  const { tools, tool_choice, parallel_tool_calls } = request;
  return {
    id: newId("resp"),
    object: "response",
    created_at: Math.floor(Date.now() / 1000),
    error: null,
    instructions: instructions ?? null,
    max_output_tokens: max_output_tokens ?? null,
    metadata: {},
    model,
    parallel_tool_calls: parallel_tool_calls ?? true,
    previous_response_id: null,
    store: false,
    temperature: temperature ?? 1,
    text: { ...text, format: text?.format ?? { type: "text" } },
    tool_choice: tool_choice ?? "auto",
    tools: tools ?? [],
    top_p: top_p ?? 1,
    truncation: "disabled",
  };
}

function usageOf(begun: Answers) {
  const { prompt_tokens, completion_tokens, total_tokens } = begun.usage();
  return {
    input_tokens: prompt_tokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: completion_tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens,
  };
}

/**
 * The events of a response.
 *
 * @param tools Tells calls from text, where there are tools.
 */
export async function* responseEvents(
  request: ResponsesRequest,
  begun: Answers,
  tools: ToolText | undefined,
): AsyncGenerator<ResponseEvent> {
  let sequence_number = 0;
  const event = (type: string, rest: object): ResponseEvent => ({
    type: `response.${type}`,
    sequence_number: sequence_number++,
    ...rest,
  });
  const frame = frameOf(request), output: unknown[] = [];
  const nothing = { status: "in_progress", incomplete_details: null, output: [], usage: null };
  const beginning = { ...frame, ...nothing };
  yield event("created", { response: beginning });
  yield event("in_progress", { response: beginning });
  let message: MessageItem | undefined, calls: readonly ToolCall[] = [], isCut = false;
  for await (const { part: { text, finished } } of begun.parts) {
    const before = tools?.push(text) ?? text, rest = finished && tools?.end();
    if (rest) calls = rest.calls;
    isCut = finished === "length" && calls.length === 0;
    const delta = before + (rest ? rest.text : "");
    // An answer of nothing is an empty message.
    const isMessage = delta !== "" || (finished !== undefined && calls.length === 0);
    if (message === undefined && isMessage) {
      message = new MessageItem();
      yield event("output_item.added", { output_index: 0, item: message.item });
      yield event("content_part.added", { ...placeOf(message), part: message.part });
    }
    if (message === undefined || delta === "") continue;
    message.text += delta;
    yield event("output_text.delta", { ...placeOf(message), delta, logprobs: [] });
  }
  const status = isCut ? "incomplete" : "completed";
  if (message !== undefined) {
    const { text, part } = message, place = placeOf(message);
    message.status = status;
    yield event("output_text.done", { ...place, text, logprobs: [] });
    yield event("content_part.done", { ...place, part });
    yield event("output_item.done", { output_index: 0, item: message.item });
    output.push(message.item);
  }
  for (const call of calls) {
    const { id: item_id, name, json, begun, item } = callItem(call), output_index = output.length;
    yield event("output_item.added", { output_index, item: begun });
    const place = { item_id, output_index };
    yield event("function_call_arguments.delta", { ...place, delta: json });
    yield event("function_call_arguments.done", { ...place, name, arguments: json });
    yield event("output_item.done", { output_index, item });
    output.push(item);
  }
  const incomplete_details = isCut ? { reason: "max_output_tokens" } : null;
  const response = { ...frame, status, incomplete_details, output, usage: usageOf(begun) };
  yield event(status, { response });
}

/** Where the text of a message is. */
function placeOf({ id }: MessageItem) {
  return { item_id: id, output_index: 0, content_index: 0 };
}
