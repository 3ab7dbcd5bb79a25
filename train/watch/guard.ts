/**
 * Who may ask: the page itself, on this machine or at the end of a tunnel, with the token.
 *
 * @module
 */
import type { Context, MiddlewareHandler, Next } from "hono";
import { bearerOf, isLoopbackName, refusalOf } from "../../http/guard.ts";

/** Refuses what another site makes a browser send, and all that has no place here. */
export async function ownPageOnly({ req, text }: Context, next: Next): Promise<Response | void> {
  const asked = { url: req.url, header: (name: string) => req.header(name) };
  const refusal = refusalOf(asked, isLoopbackName);
  if (refusal !== undefined) return text(refusal.message, refusal.status);
  // Nothing here takes a body.
  if (Number(req.header("content-length") ?? 0) > 0 || req.header("transfer-encoding")) {
    return text("A body is not expected.", 413);
  }
  await next();
}

/** Demands `Authorization: Bearer TOKEN`, which takes as long to refuse whatever was sent. */
export function withToken(token: string): MiddlewareHandler {
  const bearer = bearerOf([token]);
  return async (context, next) => {
    if (bearer(context.req.header("authorization")) < 0) {
      return context.text("The token is missing or wrong.", 401);
    }
    await next();
  };
}
