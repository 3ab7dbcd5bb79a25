/**
 * What the page asks its server for.
 *
 * @module
 */
import { type Curves, decodeCurves, type Report, type SampleAnswer, type View } from "./view.ts";

/** The token is wrong, or there is none. */
export class Refused extends Error {}

/** Where the token stays while the tab is open: a reload finds it, another page does not. */
const KEPT = "token";

/** The token at the end of a text: it is the token itself, or an address with it behind `#`. */
function tokenOf(text: string): string {
  return text.trim().split("#").at(-1) ?? "";
}

/** The server, asked with the token. */
export class Api {
  #token = sessionStorage.getItem(KEPT) ?? "";

  /** Takes the token out of the page's address, where histories would keep it. @returns Whether one was there. */
  takeToken(): boolean {
    if (tokenOf(location.hash) === "") return false;
    this.useToken(location.hash);
    history.replaceState(null, "", location.pathname);
    return true;
  }

  /** Uses another token, or address with one, from now on. */
  useToken(text: string): void {
    this.#token = tokenOf(text);
    sessionStorage.setItem(KEPT, this.#token);
  }

  /**
   * Asks.
   *
   * @throws {Refused} without the right token, and whatever `fetch` throws where nobody answers.
   */
  async #ask(path: string, method = "GET"): Promise<Response> {
    const response = await fetch(path, {
      method,
      headers: { Authorization: `Bearer ${this.#token}` },
      cache: "no-store",
      redirect: "error",
    });
    if (response.status === 401) throw new Refused();
    return response;
  }

  async #get(path: string): Promise<Response> {
    const response = await this.#ask(path);
    if (!response.ok) throw new Error(await response.text());
    return response;
  }

  /** All runs. */
  async report(): Promise<Report> {
    return await (await this.#get("api/runs")).json();
  }

  /** A run's curves over a view. */
  async curves(run: number, { axis, from, to, points, smoothing }: View): Promise<Curves> {
    const query = new URLSearchParams({
      axis,
      points: String(points),
      smoothing: String(smoothing),
    });
    if (Number.isFinite(from)) query.set("from", String(from));
    if (Number.isFinite(to)) query.set("to", String(to));
    const response = await this.#get(`api/runs/${run}/curves?${query}`);
    return decodeCurves(await response.arrayBuffer());
  }

  /** The answers of a run's evaluation. */
  async samples(run: number, step: number): Promise<SampleAnswer[]> {
    return await (await this.#get(`api/runs/${run}/samples/${step}`)).json();
  }

  /** A run's configuration; empty where it wrote none. */
  async configuration(run: number): Promise<string> {
    return await (await this.#get(`api/runs/${run}/configuration`)).text();
  }

  /** Asks a run to save its state and stop. @returns Why not, for people; empty where it was asked. */
  async stop(run: number): Promise<string> {
    const response = await this.#ask(`api/runs/${run}/stop`, "POST");
    return response.ok ? "" : await response.text();
  }
}
