/**
 * `GET /v1/models`: what is served.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { adapterNamed, type Serving } from "../serving.ts";
import { answers, type App } from "./endpoint.ts";

const list = createRoute({
  method: "get",
  path: "/v1/models",
  summary: "The models that are served.",
  responses: answers("A list of models."),
});

/** A model as OpenAI's API tells of it. */
function describe({ names: [base, ...adapters], created, context }: Serving, name: string) {
  // As other servers tell of adapters.
  const parent = adapters.includes(name) ? base : null;
  return {
    id: name,
    object: "model",
    created,
    owned_by: "lorikeet",
    parent,
    max_model_len: context,
  };
}

/** A name as a path has it; one that is written wrong is a name of nothing. */
function nameIn(path: string): string {
  const written = path.slice("/v1/models/".length);
  try {
    return decodeURIComponent(written);
  } catch {
    return written;
  }
}

export function models(app: App, serving: Serving): void {
  app.openapi(list, (context) => {
    const data = serving.names.map((name) => describe(serving, name));
    return context.json({ object: "list", data });
  });
  // Names may hold slashes, which a parameter of a path may not.
  app.get("/v1/models/*", (context) => {
    const name = nameIn(context.req.path);
    adapterNamed(serving, name);
    return context.json(describe(serving, name));
  });
}
