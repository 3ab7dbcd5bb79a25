/**
 * Devices that only compile. NVIDIA's driver compiles little more than one program of a device at a time, but what it has
 * compiled it keeps for all devices of the process. So programs are compiled on several devices side by side, and the
 * device that launches them has each from the driver within milliseconds.
 *
 * @module
 */
import { type LimitsName, openCompilingDevice } from "./limits.ts";
import { type PipelineSource, planPipeline } from "./pipeline_source.ts";
import type { Choice } from "./providers/choose.ts";
import type { Provider } from "./providers/provider.ts";

/** A device that only compiles. */
export interface Compiler extends Disposable {
  /** Compiles a program, or finds that it can't be: the device that launches it says why. */
  compile(source: PipelineSource): Promise<void>;
}

/** Where compilers come from, how many there are to be, and how many programs each has at once. */
export interface Compilers {
  count: number;
  atOnce: number;
  open(): Promise<Compiler>;
}

/** Compilers at most: each takes memory and time to be opened, and the longest program takes as long as an eighth of all. */
const MOST_COMPILERS = 8;
/** Programs that a thread has at once: one waits, so that the thread doesn't. Those of a device would wait for each other by taking a core's time. */
const OF_THREAD = 2, OF_DEVICE = 1;

/** What the thread of a compiler is told first, and then: a source. */
export interface CompilerSettings {
  limits: LimitsName;
}

/** How many compilers pay: those of NVIDIA's driver on Linux, with a core each. */
function payingCompilers({ provider, adapter }: Choice): number {
  const pays = Deno.build.os === "linux" &&
    /nvidia|geforce|rtx|tesla|quadro/i.test(provider.adapterName(adapter));
  return pays ? Math.min(MOST_COMPILERS, navigator.hardwareConcurrency - 1) : 0;
}

/**
 * The compilers for a device; undefined where none pays.
 *
 * @param count Default: as many as pay.
 */
export function compilersFor(
  choice: Choice,
  limits: LimitsName,
  count = payingCompilers(choice),
): Compilers | undefined {
  if (count <= 0) return undefined;
  const { provider } = choice;
  if (!provider.compilesInParallel) {
    return {
      count,
      atOnce: OF_THREAD,
      open: () => ThreadCompiler.open(limits),
    };
  }
  // Devices are opened on this thread: so that the first compiles meanwhile, one after the other.
  let opened: Promise<unknown> = Promise.resolve();
  const open = () => {
    const next = opened.then(() => DeviceCompiler.open(provider, limits));
    opened = next.catch(() => {});
    return next;
  };
  return { count, atOnce: OF_DEVICE, open };
}

/** A compiler of an implementation that compiles on threads of its own. */
class DeviceCompiler implements Compiler {
  constructor(readonly device: GPUDevice) {}

  static async open(provider: Provider, limits: LimitsName): Promise<DeviceCompiler> {
    return new DeviceCompiler(await openCompilingDevice(provider, limits));
  }

  async compile(source: PipelineSource): Promise<void> {
    this.device.pushErrorScope("validation");
    const { descriptor } = planPipeline(this.device, source);
    const reported = this.device.popErrorScope();
    await this.device.createComputePipelineAsync(descriptor).catch(() => {});
    await reported;
  }

  [Symbol.dispose](): void {
    this.device.destroy();
  }
}

/** A compiler on a thread, of an implementation that compiles on the thread that asks. */
class ThreadCompiler implements Compiler {
  readonly #worker = new Worker(new URL("./compile_worker.ts", import.meta.url), {
    type: "module",
  });
  /** Those who wait for an answer, in order. */
  readonly #waiting: PromiseWithResolvers<void>[] = [];

  constructor() {
    this.#worker.addEventListener("message", () => this.#waiting.shift()?.resolve());
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(event.message));
    });
  }

  static async open(limits: LimitsName): Promise<ThreadCompiler> {
    const compiler = new ThreadCompiler();
    try {
      await compiler.#ask({ limits });
      return compiler;
    } catch (error) {
      compiler[Symbol.dispose]();
      throw error;
    }
  }

  compile(source: PipelineSource): Promise<void> {
    return this.#ask(source);
  }

  #ask(message: CompilerSettings | PipelineSource): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.#waiting.push(answer);
    this.#worker.postMessage(message);
    return answer.promise;
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}

/**
 * Compiles sources on several compilers, in order. Where one can't be opened or fails, the others go on.
 *
 * @param compiled Told the index of each source that is compiled.
 * @param ended Whether no more is wanted.
 */
export async function compileAside(
  { count, atOnce, open }: Compilers,
  sources: readonly PipelineSource[],
  compiled: (index: number) => void,
  ended: () => boolean,
): Promise<void> {
  let next = 0;
  const isLeft = () => next < sources.length && !ended();
  const work = async () => {
    if (!isLeft()) return;
    using compiler = await open();
    const lane = async () => {
      while (isLeft()) {
        const index = next++;
        await compiler.compile(sources[index]);
        compiled(index);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
  };
  await Promise.allSettled(Array.from({ length: Math.min(count, sources.length) }, work));
}
