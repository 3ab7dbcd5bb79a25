/**
 * The page's server, apart from its socket: what is asked for, and what is answered.
 *
 * @module
 */
import { type Context, Hono } from "hono";
import { pageHeaders } from "../../http/headers.ts";
import { assets } from "./assets.ts";
import { curvesOf } from "./curves.ts";
import { ownPageOnly, withToken } from "./guard.ts";
import { NotStopped, type WatchedRun } from "./run.ts";
import type { Runs } from "./runs.ts";
import { AXES, encodeCurves, MOST_POINTS, type Report, type View } from "./page/view.ts";

/** Milliseconds that an answer waits for what is being read: the page shows what is there, and asks again. */
const PATIENCE = 150;

/** The view that an address asks for; undefined where a part of it is wrong. */
function viewOf(query: (name: string) => string | undefined): View | undefined {
  const number = (name: string, fallback: number) => {
    const text = query(name);
    return text === undefined ? fallback : text.trim() === "" ? NaN : Number(text);
  };
  const axis = AXES.find((name) => name === query("axis"));
  const from = number("from", -Infinity), to = number("to", Infinity);
  const points = number("points", MOST_POINTS), smoothing = number("smoothing", 0);
  const right = from <= to && Number.isInteger(points) && points >= 1 && points <= MOST_POINTS &&
    smoothing >= 0 && smoothing <= 0.999;
  return axis !== undefined && right ? { axis, from, to, points, smoothing } : undefined;
}

/**
 * The server of a page.
 *
 * @param token What whoever asks for a run's data, or to stop it, must know.
 */
export function watchApp(runs: Runs, token: string): Hono {
  const app = new Hono();
  app.use(pageHeaders());
  app.use(async (context, next) => {
    await next();
    context.header("Cache-Control", "no-store");
  });
  app.use(ownPageOnly);
  for (const [path, { type, text }] of assets()) {
    app.get(path, (context) => context.body(text, 200, { "Content-Type": type }));
  }

  app.use("/api/*", withToken(token));
  /** Answers for the run whose number is in the address. */
  const ofRun =
    (answer: (run: WatchedRun, context: Context) => Promise<Response> | Response) =>
    (context: Context) => {
      const number = context.req.param("run") ?? "";
      const run = /^\d{1,4}$/.test(number) ? runs.all[Number(number)] : undefined;
      return run === undefined ? context.text("No such run.", 404) : answer(run, context);
    };
  app.get("/api/runs", async (context) => {
    const reading = await runs.poll(PATIENCE);
    const report: Report = { reading, runs: runs.all.map((run) => run.report()) };
    return context.json(report);
  });
  app.get(
    "/api/runs/:run/curves",
    ofRun((run, context) => {
      const view = viewOf((name) => context.req.query(name));
      if (view === undefined) return context.text("The view is wrong.", 400);
      return context.body(encodeCurves(curvesOf(run.columns, view)), 200, {
        "Content-Type": "application/octet-stream",
      });
    }),
  );
  app.get(
    "/api/runs/:run/samples/:step",
    ofRun((run, context) => {
      const step = Number(context.req.param("step"));
      const found = run.evaluations.answered.find((line) => line.step === step);
      return found ? context.json(found.samples) : context.text("No such evaluation.", 404);
    }),
  );
  app.get(
    "/api/runs/:run/configuration",
    ofRun(async (run, context) => context.text(await run.configuration() ?? "")),
  );
  app.post(
    "/api/runs/:run/stop",
    ofRun(async (run, context) => {
      try {
        await run.stop();
        return context.text("");
      } catch (error) {
        if (!(error instanceof NotStopped)) throw error;
        return context.text(error.message, 409);
      }
    }),
  );
  app.notFound((context) => context.text("Nothing is here.", 404));
  app.onError((_, context) => context.text("Something went wrong.", 500));
  return app;
}
