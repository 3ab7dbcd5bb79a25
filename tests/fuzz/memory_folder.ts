/**
 * A folder in memory. Fuzz tests read tens of thousands of damaged files, and a disk would take most of their time.
 *
 * @module
 */
import assert from "node:assert/strict";

/** Contents of the files in a folder. */
export type Files = Readonly<Record<string, Uint8Array>>;

/** The method as it is before anything counts its calls. */
const { slice } = Uint8Array.prototype;

function fileInfo(kind: { isFile?: boolean; isDirectory?: boolean }, size: number): Deno.FileInfo {
  const none = { isFile: false, isDirectory: false, isSymlink: false, isFifo: false };
  return { ...none, ...kind, size, dev: 1, ino: 1 } as Deno.FileInfo;
}

/** What readers ask of an open file. */
class MemoryFile {
  #at = 0;
  readonly #bytes: Uint8Array;
  readonly #closed: () => void;

  constructor(bytes: Uint8Array, closed: () => void) {
    this.#bytes = bytes;
    this.#closed = closed;
  }

  statSync(): Deno.FileInfo {
    return fileInfo({ isFile: true }, this.#bytes.length);
  }

  /** A place that a system's file would refuse is a reader's fault. */
  seekSync(offset: number, whence: Deno.SeekMode): number {
    assert.ok(whence === Deno.SeekMode.Start && Number.isSafeInteger(offset) && offset >= 0);
    return this.#at = offset;
  }

  readSync(target: Uint8Array): number | null {
    if (target.length === 0) return 0;
    const bytes = this.#bytes.subarray(this.#at, this.#at + target.length);
    if (bytes.length === 0) return null;
    target.set(bytes);
    this.#at += bytes.length;
    return bytes.length;
  }

  read(target: Uint8Array): Promise<number | null> {
    return Promise.resolve(this.readSync(target));
  }

  close(): void {
    this.#closed();
  }
}

/** Until it is disposed, Deno's functions that read find its files under its path. */
export class MemoryFolder implements Disposable {
  /** Nothing on a disk has this name, so that what is not answered from memory is not found. */
  readonly path = "/in memory";
  files: Files = {};
  /** How many files are open. */
  open = 0;
  readonly #undo: (() => void)[] = [];

  constructor() {
    const info = (name: string) =>
      name === ""
        ? fileInfo({ isDirectory: true }, 0)
        : fileInfo({ isFile: true }, this.#bytes(name).length);
    this.#answer("statSync", info);
    this.#answer("lstatSync", info);
    this.#answer("readDirSync", () => Object.keys(this.files).map((name) => ({ name })));
    this.#answer("readFileSync", (name) => slice.call(this.#bytes(name)));
    this.#answer("openSync", (name) => {
      const file = new MemoryFile(this.#bytes(name), () => this.open--);
      this.open++;
      return file;
    });
  }

  [Symbol.dispose](): void {
    this.#undo.forEach((undo) => undo());
  }

  #bytes(name: string): Uint8Array {
    const bytes = this.files[name];
    if (bytes === undefined) throw new Deno.errors.NotFound(`"${name}" is not in memory`);
    return bytes;
  }

  /** Has one of Deno's functions answer for names in this folder; "" is the folder itself. */
  #answer(method: keyof typeof Deno, answer: (name: string) => unknown): void {
    // deno-lint-ignore no-explicit-any -- functions of several kinds
    const deno = Deno as any, original = deno[method];
    deno[method] = (path: string | URL, ...rest: unknown[]) => {
      const inside = typeof path === "string" && `${path}/`.startsWith(`${this.path}/`);
      return inside ? answer(path.slice(this.path.length + 1)) : original(path, ...rest);
    };
    this.#undo.push(() => deno[method] = original);
  }
}
