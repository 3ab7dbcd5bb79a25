/**
 * Environment variables as one test wants them. Those of the process are shared by all test files that run beside
 * each other, so only what this file's own code is told is changed.
 */
export class Variables implements Disposable {
  readonly #get = Deno.env.get;

  /** @param values By name; undefined where a variable is to be missing. Others stay as they are. */
  constructor(values: Readonly<Record<string, string | undefined>>) {
    Deno.env.get = (name) => name in values ? values[name] : this.#get.call(Deno.env, name);
  }

  [Symbol.dispose](): void {
    Deno.env.get = this.#get;
  }
}
