/**
 * Saving states while a run goes on. Between two steps the tensors are read back into host memory; then steps go on, and
 * another thread hashes and writes what was read (state_writer.ts).
 *
 * Host memory is bounded: where more bytes wait for the disk than {@linkcode mostBytes} allows, reading back waits, and so
 * does the next step. A state that fits never waits for the disk.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { hostMemory } from "../../kernels/measure/host_memory.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { encodeHeader } from "../../model/formats/write_safetensors.ts";
import { refuseDiverged } from "../health.ts";
import type { RunIdentity } from "./resume_rules.ts";
import { type Progress, stateFields } from "./state_file.ts";
import { PIECE_MEMORY, pieceSizes, statePieces, stateTensors } from "./state_tensors.ts";
import type { WriterAnswer, WriterMessage } from "./state_writer.ts";
import type { Trainer } from "../trainer.ts";

/** Bytes that may wait for the disk where nothing is known about the memory, and in any case. */
const LEAST_BYTES = 1 << 28;

/** Half of the host memory that this process may still take. */
function mostBytes(): number {
  return Math.max(LEAST_BYTES, (hostMemory()?.bytes ?? 0) / 2);
}

/**
 * Memory for pieces, which goes to the writing thread and comes back: new memory takes the system several times as long as
 * the copy. What was taken once is kept for the next state.
 */
class PieceMemory {
  readonly #free: ArrayBuffer[] = [];
  #left: number;
  #waiting?: () => void;

  /** @param most Bytes in all; at least one piece is given out. */
  constructor(most: number) {
    this.#left = Math.max(1, Math.floor(most / PIECE_MEMORY));
  }

  /** Some memory, as soon as there is some. @param given Whether nobody wants it any more. */
  async take(given: () => boolean): Promise<ArrayBuffer | undefined> {
    while (!given()) {
      const free = this.#free.pop();
      if (free !== undefined) return free;
      const [fresh] = this.reserve(1);
      if (fresh !== undefined) return fresh;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting = resolve;
      await promise;
    }
  }

  /** Takes new memory for so many pieces, as far as there may be, to be given back later. */
  reserve(pieces: number): ArrayBuffer[] {
    const count = Math.min(pieces, this.#left);
    this.#left -= count;
    return Array.from({ length: count }, () => new ArrayBuffer(PIECE_MEMORY));
  }

  /** Takes memory back. */
  giveBack(memory: ArrayBuffer): void {
    this.#free.push(memory);
    this.wake();
  }

  /** Lets who waits look again. */
  wake(): void {
    this.#waiting?.();
  }
}

/** Where a state goes, and what is done with it. */
export interface StateTarget {
  /** The run's `states/`. */
  states: string;
  /** How many states stay. */
  keep: number;
  /** Files that the state counts the lines of, which are synced with it. */
  sync: readonly string[];
}

/** A state whose tensors were read back, and that is being written. */
export interface StateUnderWay {
  step: number;
  /**
   * The state's folder, once it is on the disk for good. Rejects with a {@linkcode UserError} where it can't be written:
   * the states before it are as they were then, and the same step may be saved again.
   */
  written: Promise<string>;
}

/** What is awaited of the thread. */
interface Writing {
  resolve: (path: string) => void;
  reject: (reason: unknown) => void;
  failed: boolean;
}

/** Saves the states of a run, one after the other. */
export class StateSaver implements AsyncDisposable {
  #thread?: { worker: Worker; port: MessagePort };
  #writing?: Writing;
  /** The last state, once it is over: it never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #memory?: PieceMemory;

  /** @param most Bytes that may wait for the disk; asked once. */
  constructor(readonly gpu: Gpu, readonly trainer: Trainer, readonly most = mostBytes) {}

  /** Has the other thread take the memory for a state, which the system gives slowly: the first state then needn't wait. */
  prepare(): void {
    const sizes = pieceSizes(stateTensors(this.trainer));
    for (const [i, memory] of this.#pieces().reserve(sizes.length).entries()) {
      this.#send({ kind: "touch", memory, bytes: sizes[i] }, [memory]);
    }
  }

  #pieces(): PieceMemory {
    return this.#memory ??= new PieceMemory(this.most());
  }

  /**
   * Reads the state back and has it written. It waits for the state before it, but not for its own.
   *
   * @throws {UserError} where weights are no finite numbers: nothing is written then.
   */
  async save(
    progress: Progress,
    identity: RunIdentity,
    { states, keep, sync }: StateTarget,
  ): Promise<StateUnderWay> {
    await this.#last;
    const { gpu, trainer, trainer: { model } } = this, { step } = progress;
    await refuseDiverged(gpu, model, `the state of step ${step} is not saved in ${states}`);
    const gradScaler = await gpu.readF32(model.gradScaler);
    const fields = stateFields(progress, gradScaler, {
      ...identity,
      config: { ...identity.config },
    });
    const { promise: written, resolve, reject } = Promise.withResolvers<string>();
    const writing: Writing = this.#writing = { resolve, reject, failed: false };
    this.#last = written.catch(() => {});
    const tensors = stateTensors(trainer), pieces = this.#pieces();
    const header = encodeHeader(
      tensors.map(({ name, shape }) => ({ name, dtype: "F32", shape })),
      { format: "pt" },
    );
    this.#send({ kind: "begin", states, step, header });
    try {
      const memory = () => pieces.take(() => writing.failed);
      for await (const piece of statePieces(gpu, tensors, memory)) {
        this.#send({ kind: "bytes", ...piece }, [piece.memory]);
      }
      if (writing.failed) return { step, written };
    } catch (error) {
      this.#send({ kind: "abandon" });
      reject(error);
      throw error;
    }
    this.#send({ kind: "end", fields, keep, sync });
    return { step, written };
  }

  #send(message: WriterMessage, transfer: Transferable[] = []): void {
    this.#thread ??= this.#startThread();
    this.#thread.port.postMessage(message, transfer);
  }

  #startThread(): { worker: Worker; port: MessagePort } {
    const { port1: port, port2 } = new MessageChannel();
    const worker = new Worker(new URL("./state_worker.ts", import.meta.url), { type: "module" });
    port.onmessage = ({ data }) => this.#hear(data);
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#endThread();
      this.#fail(new Error(`the thread that writes states ended: ${event.message}`));
      this.#memory = undefined; // It went with the thread.
    });
    worker.postMessage(port2, [port2]);
    return { worker, port };
  }

  #endThread(): void {
    this.#thread?.port.close();
    this.#thread?.worker.terminate();
    this.#thread = undefined;
  }

  #hear(answer: WriterAnswer): void {
    if (answer.kind === "took") {
      this.#memory?.giveBack(answer.memory);
    } else if (answer.kind === "failed") {
      const { reason, isFile } = answer;
      this.#fail(isFile ? new UserError(reason) : new Error(reason));
    } else {
      if (answer.problem !== undefined) noteLine(answer.problem);
      this.#writing?.resolve(answer.path);
    }
  }

  #fail(error: Error): void {
    if (this.#writing === undefined) return;
    this.#writing.failed = true;
    this.#writing.reject(error);
    this.#memory?.wake();
  }

  /** Waits for the last state, whether it comes to be or not, and ends the thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    this.#endThread();
  }
}
