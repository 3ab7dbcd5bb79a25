/**
 * Sends each signal that asks a run to stop at ten moments of it, from its start to its end, and goes on with what is left:
 *
 *     ./lorikeet deno run --allow-all scripts/faults/signals.ts [SIGNAL ...]
 *
 * The exit code must be the documented one, a folder there is whole or not there at all, and the run that goes on must
 * end with the bytes of one that nobody disturbed. Prints a line a signal; the exit code is 1 where one failed.
 *
 * @module
 */
import { join } from "node:path";
import { SIGNAL_EXIT, type StopSignal } from "../../cli/exit_codes.ts";
import { STOP_SIGNALS } from "../../cli/signals.ts";
import { doAll, exists, goOn, leftovers, linesOf, must, Run, states, TRAIN, wait } from "./run.ts";

const FLAGS = ["--max-steps", "30", "--save-every", "3", "--eval-fraction", "0.2"];
/** Waits for a moment of a run. */
type Moment = (run: Run, output: string) => Promise<unknown>;

const stepsDone = (steps: number, milliseconds = 0): Moment => async (run, output) => {
  await run.until(`step ${steps}`, () => linesOf(join(output, "metrics.jsonl")).length >= steps);
  await wait(milliseconds);
};
const said = (text: string): Moment => (run) => run.until(text, () => run.text.includes(text));

/** When the signal comes. */
const MOMENTS: Record<string, Moment> = {
  "the launcher plans": () => wait(50),
  "the program is loaded": () => wait(400),
  "samples are read": said("Model:"),
  "weights are loaded": said("GPU:"),
  "programs are compiled": said("Trainable:"),
  "the first evaluation": (run, output) => run.until("it", () => exists(join(output, "run.lock"))),
  "the first step": stepsDone(1),
  "a state is saved": stepsDone(3),
  "a step": stepsDone(10, 30),
  "the results are written": stepsDone(30),
};

/** Whether a run was stopped before its first step. */
type Found = "before the first step" | "later" | "after its end";

async function disturb(signal: StopSignal, name: string): Promise<Found> {
  const folder = Deno.makeTempDirSync({ prefix: "lorikeet-signal-" }), output = join(folder, "run");
  try {
    const run = new Run("train", [...TRAIN, ...FLAGS, "--output", output]);
    await MOMENTS[name](run, output);
    const isOver = !run.kill(signal), killed = performance.now(), code = await run.end();
    const late = performance.now() - killed;
    const where = `${signal}, ${name}`;
    if (isOver || (code === 0 && exists(join(output, "summary.json")))) {
      must(code === 0, `${where}: exit code ${code}: ${run.text}`);
      return "after its end";
    }
    must(code === SIGNAL_EXIT[signal], `${where}: exit code ${code}: ${run.text}`);
    must(late < 5000, `${where}: it ended ${late} ms later`);
    must(!/^ *at |Error:|[eE]rror: /m.test(run.text), `${where}: ${run.text}`);
    if (!exists(output)) return "before the first step";
    must(states(output).length > 0, `${where}: a folder without a state: ${run.text}`);
    must(leftovers(output).length === 0, `${where}: left: ${leftovers(output)}`);
    await goOn(output, FLAGS);
    return "later";
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const signals = Deno.args.length > 0 ? Deno.args as StopSignal[] : STOP_SIGNALS;
  await doAll(
    new Map(signals.map((signal) => [signal, async () => {
      const found: Found[] = [];
      for (const name of Object.keys(MOMENTS)) found.push(await disturb(signal, name));
      const count = (what: Found) => found.filter((other) => other === what).length;
      console.log(
        `${signal}: ${count("before the first step")} before the first step, ${
          count("later")
        } later, ` +
          `${count("after its end")} after its end`,
      );
    }])),
  );
}
