/**
 * `GET /health`: whether requests are answered.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import type { Serving } from "../serving.ts";
import { answers, type App } from "./endpoint.ts";

const route = createRoute({
  method: "get",
  path: "/health",
  summary:
    "Whether requests are answered: 200, or 503 while the model is loaded or the server ends.",
  responses: answers("It answers."),
});

export function health(app: App, { dispatcher }: Serving): void {
  app.openapi(
    route,
    () =>
      Response.json({ status: dispatcher.isOpen ? "ok" : "unavailable", ...dispatcher.load }, {
        status: dispatcher.isOpen ? 200 : 503,
      }),
  );
}
