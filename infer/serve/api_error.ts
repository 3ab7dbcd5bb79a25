/**
 * Errors in the shape that OpenAI's API gives them: https://platform.openai.com/docs/guides/error-codes.
 *
 * @module
 */
import type { z } from "zod";
import { didYouMean } from "../../kernels/suggestion.ts";

/** OpenAI's kinds of errors. */
const TYPES = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  405: "invalid_request_error",
  408: "timeout_error",
  413: "invalid_request_error",
  414: "invalid_request_error",
  415: "invalid_request_error",
  429: "rate_limit_error",
  500: "server_error",
  503: "server_error",
} as const;

/** A status that an error may have. */
export type ErrorStatus = keyof typeof TYPES;

/** What an answer that failed holds. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** A request that can't be answered, and why. */
export class ApiError extends Error {
  override name = "ApiError";

  /**
   * @param param The field that is wrong.
   * @param code What programs know the error by.
   * @param retryAfter Seconds after which to ask again.
   * @param allow Methods that the path knows.
   */
  constructor(
    readonly status: ErrorStatus,
    message: string,
    readonly details: { param?: string; code?: string; retryAfter?: number; allow?: string } = {},
  ) {
    super(message);
  }

  get body(): ErrorBody {
    const { param = null, code = null } = this.details;
    return { error: { message: this.message, type: TYPES[this.status], param, code } };
  }

  /** The answer to the request. */
  response(): Response {
    const { retryAfter, allow } = this.details, headers = new Headers();
    if (retryAfter !== undefined) headers.set("Retry-After", `${retryAfter}`);
    if (allow !== undefined) headers.set("Allow", allow);
    return Response.json(this.body, { status: this.status, headers });
  }
}

/** A field as its path is written: `messages[0].role`. */
function written(path: readonly PropertyKey[]): string {
  return path.map((key, i) =>
    typeof key === "number" ? `[${key}]` : i === 0 ? String(key) : `.${String(key)}`
  ).join("");
}

/** Zod's words for a value that is none of several kinds, where a schema has none of its own. */
const UNTOLD = "Invalid input";

/** The fault that a value of several kinds has by the one that it comes closest to: whose fault lies deepest. */
function closest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== "invalid_union" || issue.message !== UNTOLD) return issue;
  const first = issue.errors.flatMap(([inner]) => inner === undefined ? [] : [closest(inner)]);
  const deepest = first.reduce(
    (best, inner) => inner.path.length > (best?.path.length ?? 0) ? inner : best,
    undefined as z.core.$ZodIssue | undefined,
  );
  return deepest === undefined ? issue : { ...deepest, path: [...issue.path, ...deepest.path] };
}

/** What is wrong with a value, in words. */
function fault(issue: z.core.$ZodIssue): string {
  const isMissing = issue.code === "invalid_type" && issue.message.endsWith("received undefined");
  return isMissing ? `is missing; expected ${issue.expected}` : issue.message;
}

/**
 * What is wrong with a request's body, told of its first fault.
 *
 * @param known The fields of a body, for suggestions.
 */
export function invalidBody(error: z.ZodError, known: readonly string[]): ApiError {
  const issue = closest(error.issues[0]), param = written(issue.path);
  if (issue.code === "unrecognized_keys") {
    const [key] = issue.keys, field = written([...issue.path, key]);
    const hint = issue.path.length === 0 ? didYouMean(key, known) : "";
    return new ApiError(400, `${field}: this field is unknown here${hint}`, {
      param: field,
      code: "unknown_parameter",
    });
  }
  const where = param === "" ? "the body" : param;
  return new ApiError(400, `${where}: ${fault(issue)}`, {
    param: param || undefined,
    code: "invalid_value",
  });
}
