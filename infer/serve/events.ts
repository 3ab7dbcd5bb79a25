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

/** Sends events as they come and are taken. An error among them is the last. */
export function eventStream(events: AsyncIterable<unknown>): Response {
  const encoder = new TextEncoder(), iterator = events[Symbol.asyncIterator]();
  const data = (text: string) => encoder.encode(`data: ${text}\n\n`);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await iterator.next();
        if (!done) return controller.enqueue(data(JSON.stringify(value)));
        controller.enqueue(data("[DONE]"));
      } catch (error) {
        controller.enqueue(data(JSON.stringify(asApiError(error).body)));
      }
      controller.close();
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: { "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no" },
  });
}
