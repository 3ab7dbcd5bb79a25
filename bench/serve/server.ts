/**
 * The server that is measured: a process that this one starts and ends, or one that runs already.
 *
 * @module
 */
import { PARENT } from "../../cli/parent.ts";
import { LORIKEET } from "../../cli/launcher.ts";
import { UserError } from "../../kernels/errors.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { type Address, ask } from "./ask.ts";

/** A server that answers. */
export type MeasuredServer = Address & AsyncDisposable;

/** Memory that a server has taken, in bytes. */
export interface ServerMemory {
  /** Of the host, by its process. */
  readonly resident: number;
  /** Of the GPU, by what it allocated. */
  readonly gpu: number;
}

/** One that runs already, at an address with `/v1` or without. */
export function runningServer(url: string, key: string | undefined): MeasuredServer {
  const base = url.replace(/\/+$/, "");
  return {
    url: base.endsWith("/v1") ? base : `${base}/v1`,
    key,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Reads what a process says, line by line. */
async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/**
 * Starts `lorikeet serve` and waits until it answers. It ends with this process, however that ends.
 *
 * @param words Its flags.
 * @param quiet Whether its progress is not shown.
 * @throws {UserError} with its last words, where it ends before.
 */
export async function startServer(
  words: readonly string[],
  quiet: boolean,
): Promise<MeasuredServer> {
  const child = new Deno.Command(LORIKEET, {
    args: ["serve", "--port", "0", ...words],
    env: { [PARENT]: `${Deno.pid}` },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const address = Promise.withResolvers<string | undefined>();
  let said = "";
  const spoken = (async () => {
    for await (const line of linesOf(child.stderr)) {
      said = line;
      if (!quiet) noteLine(line);
    }
  })();
  const printed = (async () => {
    for await (const line of linesOf(child.stdout)) {
      const [url] = /http:\S+/.exec(line) ?? [];
      if (url !== undefined) address.resolve(url);
    }
    address.resolve(undefined);
  })();
  const end = async () => {
    try {
      child.kill("SIGTERM");
    } catch {
      // It has ended by itself.
    }
    await Promise.all([child.status, spoken, printed]);
  };
  const url = await address.promise;
  if (url === undefined) {
    await end();
    throw new UserError(`the server ended: ${said.replace(/^error: /, "")}`);
  }
  return { url, [Symbol.asyncDispose]: end };
}

/** The names of the model and the adapters that a server has. */
export async function servedNames(server: MeasuredServer): Promise<string[]> {
  const { data } = await (await ask(server, "/v1/models")).json();
  return data.map(({ id }: { id: string }) => id);
}

/** What a server says of its memory. */
export async function memoryOf(server: MeasuredServer): Promise<ServerMemory> {
  const text = await (await ask(server, "/metrics")).text();
  const value = (name: string) => Number(RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? NaN);
  return {
    resident: value("process_resident_memory_bytes"),
    gpu: value("lorikeet_gpu_memory_bytes"),
  };
}
