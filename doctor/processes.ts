/**
 * Probes as processes of their own, so that a driver that crashes or hangs ends no more than its probe.
 *
 * @module
 */
import { PARENT } from "../cli/parent.ts";
import type { Probe } from "./probe.ts";

/** What a probe found, or why it found nothing. */
export type Probed = { readonly found: Probe } | { readonly failure: string };

/** How one probe is run. */
export interface ProbeOptions {
  /** `auto`, `deno` or `dawn`. */
  readonly gpu: string;
  readonly measure?: boolean;
  /** Variables of its environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Seconds after which it is given up. Default 120: drivers may compile programs for long. */
  readonly seconds?: number;
}

/** Runs a probe. @param lorikeet The launcher's path. */
export type RunProbe = (options: ProbeOptions) => Promise<Probed>;

/** Why a process ended as it did, from its status and what it wrote on standard error. */
function failureOf({ code, signal }: Deno.CommandStatus, stderr: string): string {
  if (signal !== null) return `its driver crashed (${signal})`;
  // The launcher's refusals go on with commands in lines of their own.
  const said = /^error: ([^]*)/m.exec(stderr)?.[1].trim() ?? stderr.trim().split("\n").at(-1);
  return said?.replace(/\s*\n\s*/g, " ") || `it ended with exit code ${code}`;
}

/** Probes that are started by this launcher. */
export function probing(lorikeet: string): RunProbe {
  return async ({ gpu, measure = false, env = {}, seconds = 120 }) => {
    const child = new Deno.Command(lorikeet, {
      args: ["doctor", "probe", "--gpu", gpu, ...(measure ? ["--measure"] : [])],
      env: { ...env, [PARENT]: `${Deno.pid}` },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, 1000 * seconds);
    const { stdout, stderr, ...status } = await child.output();
    clearTimeout(timer);
    if (late) return { failure: `its driver did not answer in ${seconds} s` };
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    // Drivers may write to standard output, too: the object is the last line.
    const last = text(stdout).trimEnd().split("\n").at(-1) ?? "";
    if (status.success && last.startsWith("{")) return { found: JSON.parse(last) };
    return { failure: failureOf(status, text(stderr)) };
  };
}
