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

/** Memory that a server has taken, in bytes. */
export interface ServerMemory {
  /** Of the host, by its process. */
  readonly resident: number;
  /** Of the GPU, by what it allocated. */
  readonly gpu: number;
}

/** One that runs already, at an address with `/v1` or without. */
export function runningServer(url: string, key: string | undefined): Address {
  const base = url.replace(/\/+$/, "");
  return { url: base.endsWith("/v1") ? base : `${base}/v1`, key };
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

/** Lines that are told of a server that fails. */
const LAST_LINES = 15;
/** Milliseconds in which a server that breaks off an answer may turn out to have ended. */
const ENDING = 3000;

/**
 * Starts `lorikeet serve`, and ends it when it was used. It ends with this process, however that ends.
 *
 * @param words Its flags.
 * @param quiet Whether its progress is not shown; its last words are, where something fails.
 * @throws {UserError} where it ends by itself, and what `use` throws.
 */
export async function withServer<T>(
  words: readonly string[],
  quiet: boolean,
  use: (server: Address) => Promise<T>,
): Promise<T> {
  const child = new Deno.Command(LORIKEET, {
    args: ["serve", "--port", "0", ...words],
    env: { [PARENT]: `${Deno.pid}` },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const address = Promise.withResolvers<string | undefined>(), said: string[] = [];
  const spoken = (async () => {
    for await (const line of linesOf(child.stderr)) {
      said.push(line);
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
  const ended = Promise.all([child.status, spoken, printed]);
  let isOver = false;
  void child.status.then(() => isOver = true);
  try {
    const url = await address.promise;
    if (url === undefined) throw new UserError("the server gives no address");
    return await use({ url });
  } catch (error) {
    // What its end broke off comes before the end is known.
    const timer = Promise.withResolvers<void>(), timeout = setTimeout(timer.resolve, ENDING);
    await Promise.race([ended, timer.promise]);
    clearTimeout(timeout);
    if (quiet) said.slice(-LAST_LINES).forEach(noteLine);
    if (!isOver) throw error;
    const { code, signal } = await child.status;
    const how = signal === null ? `exit code ${code}` : signal;
    const last = said.findLast((line) => line.startsWith("error: ")) ?? said.at(-1) ?? "";
    throw new UserError(`the server ended (${how}): ${last.replace(/^error: /, "")}`);
  } finally {
    if (!isOver) child.kill("SIGTERM");
    await ended;
  }
}

/** The names of the model and the adapters that a server has. */
export async function servedNames(server: Address): Promise<string[]> {
  const { data } = await (await ask(server, "/v1/models")).json();
  return data.map(({ id }: { id: string }) => id);
}

/** What a server says of its memory. */
export async function memoryOf(server: Address): Promise<ServerMemory> {
  const text = await (await ask(server, "/metrics")).text();
  const value = (name: string) => Number(RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? NaN);
  return {
    resident: value("process_resident_memory_bytes"),
    gpu: value("lorikeet_gpu_memory_bytes"),
  };
}
