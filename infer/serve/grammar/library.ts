/**
 * xgrammar (`npm:@mlc-ai/web-xgrammar`), which is loaded where it is needed.
 *
 * @module
 */
import type { GrammarCompiler, GrammarMatcher, TokenizerInfo } from "xgrammar";

/** What is used of the library. */
export interface Library {
  TokenizerInfo: typeof TokenizerInfo;
  GrammarCompiler: typeof GrammarCompiler;
  GrammarMatcher: typeof GrammarMatcher;
}

let loaded: Promise<Library> | undefined;

/**
 * Loads it. Its file is a script that calls itself a module: it leaves what it has in a global variable, and asks for the
 * place that it was loaded from, for which it takes `location`, or `require`, which modules lack.
 */
async function load(): Promise<Library> {
  const scope = globalThis as { location?: unknown; xgrammar?: Library };
  const isMissing = scope.location === undefined;
  if (isMissing) {
    const value = { href: import.meta.url };
    Object.defineProperty(scope, "location", { value, configurable: true, writable: true });
  }
  try {
    await import("xgrammar");
    const library = scope.xgrammar;
    if (library === undefined) throw new Error("xgrammar has another form than expected");
    // Its WebAssembly is made with the first call.
    (await library.TokenizerInfo.createTokenizerInfo(["a"], "raw")).dispose();
    return library;
  } finally {
    if (isMissing) delete scope.location;
    delete scope.xgrammar;
  }
}

/** The library, loaded once. */
export function grammarLibrary(): Promise<Library> {
  return loaded ??= load();
}
