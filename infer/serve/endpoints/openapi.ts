/**
 * `GET /openapi.json`: the endpoints and their fields, for programs.
 *
 * @module
 */
import type { App } from "./endpoint.ts";

export function openapi(app: App): void {
  app.get("/openapi.json", (context) =>
    context.json(app.getOpenAPI31Document({
      openapi: "3.1.0",
      info: {
        title: "Lorikeet",
        version: "1",
        description: "A model behind the endpoints of OpenAI's API.",
      },
    })));
}
