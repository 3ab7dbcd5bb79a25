/**
 * The server, apart from its socket: who is let in, what is answered, and how errors are told.
 *
 * @module
 */
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { OpenAPIHono } from "hono-openapi";
import { bearerOf, hostName, LOOPBACK_NAMES, refusalOf } from "../../http/guard.ts";
import { dataHeaders, pageHeaders } from "../../http/headers.ts";
import { ApiError, type ErrorStatus } from "./api_error.ts";
import { chatCompletions } from "./endpoints/chat_completions.ts";
import { completions } from "./endpoints/completions.ts";
import type { App, Endpoint } from "./endpoints/endpoint.ts";
import { health } from "./endpoints/health.ts";
import { metrics } from "./endpoints/metrics.ts";
import { models } from "./endpoints/models.ts";
import { openapi } from "./endpoints/openapi.ts";
import { responses } from "./endpoints/responses.ts";
import { tokenize } from "./endpoints/tokenize.ts";
import { checkBodySize } from "./body_size.ts";
import { asApiError } from "./events.ts";
import type { servedPage } from "./page_files.ts";
import type { Serving } from "./serving.ts";

const ENDPOINTS: readonly Endpoint[] = [
  models,
  chatCompletions,
  completions,
  responses,
  tokenize,
  health,
  metrics,
  openapi,
];

/** Paths whose answers are counted each. */
export const COUNTED_PATHS: readonly string[] = [
  "/v1/models",
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/responses",
  "/tokenize",
  "/detokenize",
  "/health",
  "/metrics",
  "/openapi.json",
];

/** Paths whose bodies may hold lists of ids. */
const IDS_PATHS: readonly string[] = ["/v1/completions", "/detokenize"];

/** Bytes of a body at most. */
const LARGEST_BODY = 8 << 20;

/** What is said to whoever knows the server by another name, such as from a container. */
const OTHER_NAMES = " Another name of it is given by --origin http://NAME:PORT.";

/** Who may ask. */
export interface Access {
  /** The address that is listened on. */
  readonly host: string;
  /** Whether every address of the machine is. */
  readonly everywhere: boolean;
  /** The machine's name in its network. */
  readonly hostname: string;
  /** Keys of those who may; all may where there are none. */
  readonly keys: readonly string[];
  /** Origins under which a proxy shows the server. */
  readonly origins: readonly string[];
}

const DATA = dataHeaders(), PAGE = pageHeaders("dompurify");

/** Whether a path is the page's, which holds nothing that a key is for. */
function isOfPage(path: string): boolean {
  return path === "/" || path.startsWith("/page/") || path.startsWith("/http/page/");
}

/** The page's files, read when the first of them is asked for: the server is to answer programs soon. */
let pageFiles: ReturnType<typeof servedPage> | undefined;

/** Answers with a file of the page. */
async function answerPage(context: Context): Promise<Response | undefined> {
  pageFiles ??= (await import("./page_files.ts")).servedPage();
  const file = pageFiles.get(context.req.path);
  return file && context.body(file.text, 200, { "Content-Type": file.type });
}

/** Whether a Host header names this server. */
function servedHost({ host, everywhere, hostname, origins }: Access) {
  const own = [...LOOPBACK_NAMES, host, `[${host}]`, ...(everywhere ? [hostname] : [])];
  const proxied = origins.map((origin) => new URL(origin).hostname);
  const names = [...own, ...proxied].map((name) => name.toLowerCase());
  // An address is no name that another site could have changed.
  const isAddress = (name: string) => /^(\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])$/.test(name);
  return (given: string | undefined): boolean => {
    const name = hostName(given);
    return name !== undefined && (names.includes(name) || (everywhere && isAddress(name)));
  };
}

/** An error of Hono's own as one of ours. */
function ownError(error: unknown): ApiError {
  if (!(error instanceof HTTPException)) return asApiError(error);
  if (error.status === 400) {
    return new ApiError(400, "the body is no JSON", { code: "invalid_json" });
  }
  return new ApiError(error.status as ErrorStatus, error.message);
}

/** The path that another one was meant to be, as when `/v1` is missing at a client's address, or is there twice. */
function meantPath(path: string): string | undefined {
  const single = path.replace(/\/{2,}/g, "/").replace(/\/$/, "");
  return [single, `/v1${single}`].find((given) => COUNTED_PATHS.includes(given)) ??
    COUNTED_PATHS.find((known) => single.endsWith(known));
}

/** What is said of a path that is none, or is asked in a way that it does not know. */
function unknownUrl({ routes }: App, { method, path }: { method: string; path: string }): ApiError {
  const known = routes.filter((route) => route.path === path && route.method !== "ALL");
  const allow = [...new Set(known.map((route) => route.method))].join(", ");
  if (allow !== "") {
    const message = `${path} does not know ${method}; expected ${allow}`;
    return new ApiError(405, message, { code: "method_not_allowed", allow });
  }
  const meant = meantPath(path), hint = meant === undefined ? "" : `; did you mean ${meant}?`;
  const message = `there is no ${method} ${path} here${hint}`;
  return new ApiError(404, message, { code: "unknown_url" });
}

/** The server of a model. */
export function serveApp(serving: Serving, access: Access): App {
  const app: App = new OpenAPIHono();
  const isServed = servedHost(access), { keys, origins } = access, bearer = bearerOf(keys);
  app.use((context, next) => (isOfPage(context.req.path) ? PAGE : DATA)(context, next));
  app.use(async (context, next) => {
    await next();
    context.header("Cache-Control", "no-store");
    serving.metrics.answered(context.req.path, context.res.status);
  });
  app.use(async ({ req, set, env }, next) => {
    const refusal = refusalOf(
      { url: req.url, header: (name) => req.header(name) },
      isServed,
      origins,
    );
    if (refusal !== undefined) {
      const hint = isServed(req.header("host")) ? "" : OTHER_NAMES;
      throw new ApiError(refusal.status, `${refusal.message}${hint}`);
    }
    const key = bearer(req.header("authorization"));
    if (keys.length > 0 && key < 0 && req.path !== "/health" && !isOfPage(req.path)) {
      throw new ApiError(
        401,
        "the API key is missing or wrong; expected Authorization: Bearer KEY",
        {
          code: "invalid_api_key",
        },
      );
    }
    set("client", key < 0 ? env.address : `key ${key}`);
    await next();
  });
  app.post("*", async ({ req }, next) => {
    const type = req.header("content-type") ?? "";
    if (!/^application\/json\s*(;|$)/i.test(type)) {
      throw new ApiError(415, `the body is ${type || "of no type"}; expected application/json`);
    }
    await next();
  });
  app.use(bodyLimit({
    maxSize: LARGEST_BODY,
    onError: () => {
      throw new ApiError(413, `the body is too large; expected at most ${LARGEST_BODY} bytes`);
    },
  }));
  app.post("*", async ({ req }, next) => {
    checkBodySize(await req.text(), IDS_PATHS.includes(req.path));
    await next();
  });
  for (const endpoint of ENDPOINTS) endpoint(app, serving);
  app.get("*", async (context, next) => {
    const page = isOfPage(context.req.path) ? await answerPage(context) : undefined;
    return page ?? await next();
  });
  app.notFound(({ req }) => unknownUrl(app, req).response());
  app.onError((error) => ownError(error).response());
  return app;
}
