/**
 * `lorikeet serve`: a model behind an API that programs know. This thread feeds the GPU; another one (worker.ts) answers
 * requests.
 *
 * @module
 */
import { SIGNAL_EXIT } from "../../cli/exit_codes.ts";
import { lessMemory } from "../../cli/less_memory.ts";
import { runMain } from "../../cli/run_main.ts";
import { PERSONAL, stopSignals } from "../../cli/signals.ts";
import { UserError } from "../../kernels/errors.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { noteLine, printLine } from "../../kernels/terminal.ts";
import { combineAdapters, type CombinedAdapters } from "../../model/adapter/combined.ts";
import { checkAdapter, readAdapter } from "../../model/adapter/adapter_folder.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { Engine } from "../../model/engine/engine.ts";
import type { EngineSizes } from "../../model/engine/slots.ts";
import { contextLength, type ModelConfig } from "../../model/families/config.ts";
import { generateMode } from "../../model/transformer/modes.ts";
import { readApiKeys } from "../../model/files/api_keys.ts";
import { cacheDtype, loadModel, typicalPrompt } from "../open.ts";
import { EngineHost } from "./engine_host.ts";
import { adapterOf, modelName, parseServeArguments, type ServeFlags } from "./flags.ts";
import type { ServeSettings, ToEngine, ToServer } from "./messages.ts";

/** Characters of an API key at least: a shorter one could be guessed. */
const SHORTEST_KEY = 16;
/** Tokens of prompts between two steps of the answers that are being made. */
const INTERLEAVED = 1024;

/** The server's address. */
function urlOf(host: string, port: number): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}/`;
}

/** The thread that answers requests. */
class ServerThread implements Disposable {
  readonly posted: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  readonly #listening = Promise.withResolvers<number>();

  /** Obeys what the thread asks of the engine, once there is one. */
  obey: (message: ToEngine) => void = () => {};

  constructor() {
    this.#worker.addEventListener("message", ({ data }: MessageEvent<ToEngine>) => {
      if (data.kind === "listening") this.#listening.resolve(data.port);
      else if (data.kind === "failed") this.#listening.reject(new UserError(data.message));
      else this.obey(data);
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#listening.reject(new Error(event.message));
      this.obey({ kind: "failed", message: event.message });
    });
  }

  tell(message: ToServer): void {
    this.#worker.postMessage(message);
  }

  /** Makes it listen. @returns its port. @throws {UserError} where it can't. */
  async listen(settings: ServeSettings): Promise<number> {
    this.tell({ kind: "serve", settings, posted: this.posted });
    return await this.#listening.promise;
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}

/**
 * Makes the first signal finish what is being answered, and the second end the program.
 *
 * @returns what stops listening.
 */
function onSignals(finish: () => void): () => void {
  let asked = false;
  const listeners = stopSignals().map((signal) => {
    const heard = () => {
      if (asked && PERSONAL.includes(signal)) Deno.exit(SIGNAL_EXIT[signal]);
      if (asked) return;
      asked = true;
      finish();
    };
    Deno.addSignalListener(signal, heard);
    return [signal, heard] as const;
  });
  return () => {
    for (const [signal, heard] of listeners) Deno.removeSignalListener(signal, heard);
  };
}

function settingsOf(flags: ServeFlags, context: number): ServeSettings {
  const { host, port, model, tokenizer, add_bos, layers, template, template_kwargs } = flags;
  const { sequences, queue, timeout, api_key_file, adapter } = flags;
  const names = [modelName(model), ...adapter.flatMap((given) => adapterOf(given)?.name ?? [])];
  const keys = api_key_file === undefined ? [] : readApiKeys(api_key_file, SHORTEST_KEY);
  const bounds = { sequences, context, queue, timeout };
  const texts = { model, tokenizer, add_bos, layers, template, template_kwargs };
  const origins = flags.origin.map((given) => new URL(given).origin);
  return { host, port, keys, origins, names, ...texts, ...bounds };
}

/** The adapters to serve, side by side. @throws {UserError} where one of them can't be. */
function readAdapters({ adapter }: ServeFlags, config: ModelConfig): CombinedAdapters | undefined {
  const named = adapter.flatMap((given) => adapterOf(given) ?? []).map(({ name, folder }) => {
    const adapter = readAdapter(folder);
    return { ...adapter, name, plan: checkAdapter(adapter, config, folder) };
  });
  return named.length === 0 ? undefined : combineAdapters(named, config);
}

/** Runs the command. */
export async function serve(args: string[]): Promise<void> {
  const flags = parseServeArguments(args), { sequences } = flags;
  const source = openModel(flags.model, flags.layers);
  const adapters = readAdapters(flags, source.config);
  const context = Math.min(flags.context, contextLength(source.config));
  using thread = new ServerThread();
  // What is wrong with the port, the tokenizer or the template is said before the weights are loaded.
  const port = await thread.listen(settingsOf(flags, context));
  const sizes: EngineSizes = {
    sequences,
    context,
    promptTokens: sequences * context,
    cache: cacheDtype(flags),
  };
  const options = { penalized: true, adjusted: true, logprobs: true, interleaved: INTERLEAVED };
  await using session = await loadModel(
    { source, adapter: adapters },
    { ...flags, profile: false },
    {
      mode: generateMode(sizes),
      also: (memory, model) => new Engine(memory, model, sizes, options),
      advice: lessMemory("fewer --sequences, a smaller --context"),
      rehearse: (gpu, engine) =>
        engine.rehearse(gpu, [typicalPrompt(context)], { maxTokens: context, stop: [] }),
    },
  );
  const { gpu, loaded: { also: engine } } = session;
  const host = new EngineHost(
    gpu,
    engine,
    (pieces) => thread.tell({ kind: "pieces", pieces }),
    thread.posted,
  );
  let failure: string | undefined;
  thread.obey = (message) => {
    if (message.kind === "admit") void host.admit(message);
    else if (message.kind === "vocabulary") {
      host.know(message.vocabulary).catch((error: Error) => {
        failure = error.message;
        host.end();
      });
    } else if (message.kind === "evict") host.evict(message.id);
    else {
      if (message.kind === "failed") failure = message.message;
      host.end();
    }
    host.received();
  };
  const stopListening = onSignals(() => {
    noteLine("Finishing the answers that are being made; Ctrl-C again ends at once.");
    thread.tell({ kind: "finish" });
  });
  try {
    thread.tell({ kind: "ready", gpuBytes: gpu.memory.peakTotal });
    const memory = megabytes(engine.slots.cache?.bytes ?? 0).toFixed(1);
    noteLine(
      `${source.name}: ${sequences} answers at once of ${context} tokens, cache ${memory} MB.`,
    );
    const url = urlOf(flags.host, port);
    noteLine(`A page to talk with it: ${url}`);
    printLine(`Serving ${url}v1`);
    await host.run();
  } finally {
    stopListening();
  }
  if (failure !== undefined) throw new Error(`the thread that answers requests: ${failure}`);
}

if (import.meta.main) await runMain(serve);
