/**
 * `GET /metrics`: counts and times for Prometheus.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import type { Serving } from "../serving.ts";
import { answers, type App } from "./endpoint.ts";

const route = createRoute({
  method: "get",
  path: "/metrics",
  summary: "Counts and times, as Prometheus reads them.",
  responses: answers("Lines of text."),
});

export function metrics(app: App, { metrics, dispatcher }: Serving): void {
  app.openapi(route, () =>
    new Response(metrics.text(dispatcher.load), {
      headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" },
    }));
}
