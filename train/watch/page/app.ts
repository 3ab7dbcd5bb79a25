/**
 * The page: asks for what has changed every now and then, and shows it.
 *
 * @module
 */
import { byId, setText } from "../../../http/page/elements.ts";
import { Api, Refused } from "./api.ts";
import { Chart, type ChartActions, type ChartKind, type ShownRun } from "./chart.ts";
import { OneRun } from "./one_run.ts";
import { RunList } from "./run_list.ts";
import { AXES, type Axis, type Curves, type Report, type RunReport } from "./view.ts";

/** Milliseconds until the next look: as a rule, while runs are being read, and after a failure. */
const USUAL = 2000, SOON = 50, LATER = 5000;
/** Milliseconds between curves of runs that are still being read: the same thread reads them and makes the curves. */
const PART = 1000;
/** Points of a curve: more than a screen's pixels show nothing more. */
const FEWEST = 200, MOST = 1000;

const KINDS: readonly ChartKind[] = [
  { metric: "loss", title: "Loss", wide: true },
  { metric: "learning_rate", title: "Learning rate" },
  { metric: "grad_norm", title: "Gradient norm" },
  { metric: "throughput", title: "Throughput (tokens/s)", linear: true },
  { metric: "loss_scale", title: "Loss scale" },
  { metric: "rewards_accuracies", title: "Reward accuracy", linear: true, optional: true },
  { metric: "rewards_margins", title: "Reward margin", linear: true, optional: true },
];

class Page implements ChartActions {
  readonly #api = new Api();
  readonly #list = new RunList(() => this.#lookNow(), (run) => this.#askToStop(run));
  readonly #one = new OneRun(this.#api, () => this.#lookNow());
  readonly #charts = KINDS.map((kind) => new Chart(kind, this));
  readonly #axis = byId("axis", HTMLSelectElement);
  readonly #smoothing = byId("smoothing", HTMLInputElement);
  readonly #logarithmic = byId("log", HTMLInputElement);
  readonly #state = byId("state", HTMLElement);
  readonly #tokenForm = byId("token-form", HTMLFormElement);
  readonly #content = byId("content", HTMLElement);
  readonly #dialog = byId("stop", HTMLDialogElement);
  /** The last curves of each run, and what they were asked for. */
  readonly #curves = new Map<number, { key: string; curves: Curves }>();
  #from = -Infinity;
  #to = Infinity;
  #timer = 0;
  #looking = false;
  /** When curves are asked for again while runs are being read. */
  #nextPart = performance.now() + PART;
  /** Whether to look again as soon as the look under way has ended. */
  #again = false;
  #toStop: RunReport | undefined;

  constructor() {
    this.#api.takeToken();
    byId("charts", HTMLElement).append(...this.#charts.map(({ figure }) => figure));
    this.#axis.addEventListener("change", () => this.showAll());
    this.#logarithmic.addEventListener("change", () => this.#lookNow());
    this.#smoothing.addEventListener("input", () => {
      setText(byId("smoothing-value", HTMLOutputElement), this.#weight.toFixed(2));
      this.#lookNow();
    });
    const press = (id: string, action: () => void) =>
      byId(id, HTMLButtonElement).addEventListener("click", action);
    press("closer", () => this.zoomBy(0.5));
    press("farther", () => this.zoomBy(2));
    press("earlier", () => this.#move(-0.5));
    press("later", () => this.#move(0.5));
    press("whole", () => this.showAll());
    press("stop-no", () => this.#dialog.close());
    press("stop-yes", () => this.#stop());
    this.#tokenForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#api.useToken(byId("token", HTMLInputElement).value);
      this.#lookNow();
    });
    addEventListener("hashchange", () => this.#api.takeToken() && this.#lookNow());
    document.addEventListener("visibilitychange", () => this.#lookNow());
    // Another size has room for more points, another scheme has other colours.
    addEventListener("resize", () => this.#lookNow());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#lookNow());
    this.#lookNow();
  }

  get #weight(): number {
    return Number(this.#smoothing.value);
  }

  get #place(): Axis {
    return AXES.find((axis) => axis === this.#axis.value) ?? "step";
  }

  /** Looks at the runs now, or once the look under way has ended. */
  #lookNow(): void {
    if (this.#looking) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#looking = true;
    this.#look().then((wait) => {
      this.#looking = false;
      const next = this.#again ? 0 : wait;
      this.#again = false;
      // Nobody sees a page in the background; it looks again once it comes to the front.
      if (document.hidden || next === undefined) return;
      this.#timer = setTimeout(() => this.#lookNow(), next);
    });
  }

  /** One look. @returns Milliseconds until the next; undefined where a token is missing. */
  async #look(): Promise<number | undefined> {
    try {
      const report = await this.#api.report();
      this.#tokenForm.hidden = true;
      this.#content.hidden = false;
      await this.#show(report);
      return report.reading ? SOON : USUAL;
    } catch (error) {
      const refused = error instanceof Refused;
      this.#say(
        refused
          ? "The token that the terminal shows is needed."
          : "No answer: the program has ended, or the tunnel to it. Trying again.",
        true,
      );
      if (!refused) return LATER;
      this.#tokenForm.hidden = false;
      this.#content.hidden = true;
    }
  }

  #say(text: string, bad: boolean): void {
    setText(this.#state, text);
    this.#state.classList.toggle("bad", bad);
  }

  async #show({ reading, runs }: Report): Promise<void> {
    this.#list.update(runs);
    const words = runs.length === 1 ? runs[0].name : `${runs.length} runs`;
    if (reading && performance.now() < this.#nextPart) return this.#say(`${words}, reading`, false);
    this.#nextPart = performance.now() + PART;
    const shown = await Promise.all(
      runs.filter((run) => this.#list.shows(run)).map((run) => this.#shownRun(run)),
    );
    const view = {
      axis: this.#place,
      from: this.#from,
      to: this.#to,
      logarithmic: this.#logarithmic.checked,
    };
    for (const chart of this.#charts) chart.show(shown, view);
    if (runs.length === 0) return this.#say("The run has not begun yet.", false);
    const count = runs.filter(({ status }) => status === "running").length;
    this.#say(reading ? `${words}, reading` : `${words}, ${count} running`, false);
    document.title = `${words} – Lorikeet`;
    await this.#one.update(runs);
  }

  /** A run with its curves, which are asked for where they or what is shown of them have changed. */
  async #shownRun(run: RunReport): Promise<ShownRun> {
    const { id, name, version, steps, evaluations } = run;
    const width = Math.max(...this.#charts.map(({ width }) => width));
    const view = {
      axis: this.#place,
      from: this.#from,
      to: this.#to,
      points: Math.min(MOST, Math.max(FEWEST, width)),
      smoothing: this.#weight,
    };
    const key = [version, steps, ...Object.values(view)].join(" ");
    let kept = this.#curves.get(id);
    if (kept?.key !== key) {
      kept = { key, curves: await this.#api.curves(id, view) };
      this.#curves.set(id, kept);
    }
    return { id, name, curves: kept.curves, evaluations };
  }

  /** First and last place that are shown now. */
  #extent(): [number, number] {
    const all = [...this.#curves.values()].map(({ curves: { x } }) => x).filter((x) =>
      x.length > 0
    );
    if (all.length === 0) return [0, 1];
    return [
      Number.isFinite(this.#from) ? this.#from : Math.min(...all.map((x) => x[0])),
      Number.isFinite(this.#to) ? this.#to : Math.max(...all.map((x) => x[x.length - 1])),
    ];
  }

  zoomTo(from: number, to: number): void {
    this.#from = Math.max(0, from);
    this.#to = to;
    this.#lookNow();
  }

  zoomBy(factor: number): void {
    const [from, to] = this.#extent(), half = factor * (to - from) / 2;
    if (half > 0) this.zoomTo((from + to) / 2 - half, (from + to) / 2 + half);
  }

  #move(share: number): void {
    const [from, to] = this.#extent(), by = Math.max(-from, share * (to - from));
    this.zoomTo(from + by, to + by);
  }

  showAll(): void {
    this.#from = -Infinity;
    this.#to = Infinity;
    this.#lookNow();
  }

  #askToStop(run: RunReport): void {
    this.#toStop = run;
    setText(
      byId("stop-text", HTMLElement),
      `${run.name} ends the step that it is at, saves its state and stops. It can go on from there later.`,
    );
    this.#dialog.showModal();
  }

  async #stop(): Promise<void> {
    const run = this.#toStop;
    if (run === undefined) return;
    try {
      const problem = await this.#api.stop(run.id);
      if (problem !== "") {
        setText(byId("stop-text", HTMLElement), problem);
        return;
      }
    } catch {
      setText(byId("stop-text", HTMLElement), "No answer: the run was not asked to stop.");
      return;
    }
    this.#dialog.close();
    this.#lookNow();
  }
}

new Page();
