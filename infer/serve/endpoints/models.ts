/**
 * `GET /v1/models`: what is served.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { checkModel, type Serving } from "../serving.ts";
import { answers, type App } from "./endpoint.ts";

const list = createRoute({
  method: "get",
  path: "/v1/models",
  summary: "The models that are served.",
  responses: answers("A list of models."),
});

/** A model as OpenAI's API tells of it. */
function describe({ name, created, context }: Serving) {
  return { id: name, object: "model", created, owned_by: "lorikeet", max_model_len: context };
}

export function models(app: App, serving: Serving): void {
  app.openapi(list, (context) => {
    return context.json({ object: "list", data: [describe(serving)] });
  });
  // Names may hold slashes, which a parameter of a path may not.
  app.get("/v1/models/*", (context) => {
    checkModel(serving, decodeURIComponent(context.req.path.slice("/v1/models/".length)));
    return context.json(describe(serving));
  });
}
