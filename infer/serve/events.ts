/**
 * Answers as server-sent events, in the form that OpenAI's API has them: JSON after `data: `, and `[DONE]` at the end.
 *
 * @module
 */
import { ApiError } from "./api_error.ts";

/** An error as a request's answer; one that is nobody's fault but ours says nothing of itself. */
export function asApiError(error: unknown): ApiError {
  return error instanceof ApiError
    ? error
    : new ApiError(500, "something went wrong here", { code: "internal_error" });
}

/**
 * Sends events as they come and are taken. An error among them is the last.
 *
 * @param named Whether events have a type of their own, by which they are named, and need no `[DONE]`.
 */
export function eventStream(
  events: AsyncIterable<object>,
  { named = false }: { named?: boolean } = {},
): Response {
  const encoder = new TextEncoder(), iterator = events[Symbol.asyncIterator]();
  const data = (text: string, name = "") => encoder.encode(`${name}data: ${text}\n\n`);
  const nameOf = (event: object) => named && "type" in event ? `event: ${event.type}\n` : "";
  const failed = (error: unknown) => {
    const { body } = asApiError(error);
    return named
      ? data(JSON.stringify({ ...body.error, type: "error" }), "event: error\n")
      : data(JSON.stringify(body));
  };
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await iterator.next();
        if (!done) return controller.enqueue(data(JSON.stringify(value), nameOf(value)));
        if (!named) controller.enqueue(data("[DONE]"));
      } catch (error) {
        controller.enqueue(failed(error));
      }
      controller.close();
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: { "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no" },
  });
}
