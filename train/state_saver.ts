/**
 * Saving states while a run goes on. Between two steps the tensors are read back into host memory; then steps go on, and
 * another thread hashes and writes what was read (state_writer.ts).
 *
 * Host memory is bounded: where more bytes wait for the disk than {@linkcode mostBytes} allows, reading back waits, and so
 * does the next step. A state that fits never waits for the disk.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { hostMemory } from "../kernels/measure/host_memory.ts";
import { noteLine } from "../kernels/terminal.ts";
import { encodeHeader } from "../model/formats/write_safetensors.ts";
import { refuseDiverged } from "./health.ts";
import type { RunIdentity } from "./resume_rules.ts";
import { type Progress, stateFields } from "./state_file.ts";
import { stateTensors, tensorPieces } from "./state_tensors.ts";
import type { WriterAnswer, WriterMessage } from "./state_writer.ts";
import type { Trainer } from "./trainer.ts";

/** Bytes that may wait for the disk where nothing is known about the memory, and in any case. */
const LEAST_BYTES = 1 << 28;

/** Half of the host memory that this process may still take now. */
function mostBytes(): number {
  return Math.max(LEAST_BYTES, (hostMemory()?.bytes ?? 0) / 2);
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
  /** Bytes that were sent and are not written yet, and who waits for fewer. */
  #waiting = 0;
  #awaitsRoom?: () => void;

  /** @param most Bytes that may wait for the disk. */
  constructor(readonly gpu: Gpu, readonly trainer: Trainer, readonly most = mostBytes) {}

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
    const tensors = [...stateTensors(trainer)], most = this.most();
    const header = encodeHeader(
      tensors.map(({ name, shape }) => ({ name, dtype: "F32", shape })),
      { format: "pt" },
    );
    this.#send({ kind: "begin", states, step, header });
    try {
      for (const tensor of tensors) {
        for await (const bytes of tensorPieces(gpu, tensor)) {
          await this.#room(bytes.length, most);
          if (writing.failed) return { step, written };
          this.#waiting += bytes.length;
          this.#send({ kind: "bytes", tensor: tensor.name, bytes }, [bytes.buffer]);
        }
      }
    } catch (error) {
      this.#send({ kind: "abandon" });
      reject(error);
      throw error;
    }
    this.#send({ kind: "end", fields, keep, sync });
    return { step, written };
  }

  /** Waits until so many more bytes may wait for the disk. */
  async #room(bytes: number, most: number): Promise<void> {
    while (this.#waiting > 0 && this.#waiting + bytes > most && !this.#writing?.failed) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#awaitsRoom = resolve;
      await promise;
    }
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
      this.#waiting -= answer.bytes;
      this.#awaitsRoom?.();
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
    this.#awaitsRoom?.();
  }

  /** Waits for the last state, whether it comes to be or not, and ends the thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    this.#endThread();
  }
}
