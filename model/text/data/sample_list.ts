/**
 * The samples of a run by row of data.
 *
 * @module
 */
import type { SampleGroup, TokenizedSample } from "../prompt.ts";

/** What samples hold, by which a run knows them again. */
export interface SamplesFingerprint {
  samples: number;
  /** Of samples that are tokenised as they are needed, which are not counted, it is absent, and there are bytes. */
  tokens?: number;
  bytes?: number;
  sha256: string;
}

/** Samples in groups; a list of groups is one. */
export interface SampleList extends Iterable<SampleGroup> {
  /** Groups. */
  readonly length: number;
  /**
   * A group; undefined where there is none, or, of samples that are not all tokenised, where it has nothing to learn.
   *
   * @throws {UserError} of samples that are not all tokenised, where they can't be read.
   */
  at(index: number): SampleGroup | undefined;
  /** Of samples that are not all tokenised: none has more tokens. Such groups have a sample each. */
  readonly mostTokens?: number;
  /** Of such samples, what stands for their ids. */
  readonly contents?: SamplesFingerprint;
  /**
   * Looks at some more rows that were not looked at.
   *
   * @throws {UserError} where one is wrong.
   */
  lookAhead?(): void;
  /** Closes what is read from. */
  [Symbol.dispose]?(): void;
}

/** Groups that `at` finds, without those that have nothing to learn. */
function* found(list: Pick<SampleList, "length" | "at">): Generator<SampleGroup, void> {
  for (let i = 0; i < list.length; i++) {
    const group = list.at(i);
    if (group !== undefined) yield group;
  }
}

/** Some groups of a list. */
export class SampleSubset implements SampleList {
  constructor(readonly all: SampleList, readonly indexes: ArrayLike<number>) {}

  get length(): number {
    return this.indexes.length;
  }

  get mostTokens(): number | undefined {
    return this.all.mostTokens;
  }

  at(index: number): SampleGroup | undefined {
    return this.all.at(this.indexes[index]);
  }

  [Symbol.iterator](): Generator<SampleGroup, void> {
    return found(this);
  }
}

/** Lists one after another. */
export class JoinedSamples implements SampleList {
  readonly #lists: readonly SampleList[];
  /** Where each begins. */
  readonly starts: readonly number[];
  readonly length: number;

  constructor(lists: readonly SampleList[]) {
    this.#lists = lists;
    const starts: number[] = [];
    let length = 0;
    for (const list of lists) {
      starts.push(length);
      length += list.length;
    }
    this.starts = starts;
    this.length = length;
  }

  /** Of lists with the same maximum length: where one of them has it. */
  get mostTokens(): number | undefined {
    return this.#lists.find(({ mostTokens }) => mostTokens !== undefined)?.mostTokens;
  }

  at(index: number): SampleGroup | undefined {
    const list = this.starts.findLastIndex((start) => start <= index);
    return list < 0 ? undefined : this.#lists[list].at(index - this.starts[list]);
  }

  [Symbol.iterator](): Generator<SampleGroup, void> {
    return found(this);
  }

  lookAhead(): void {
    for (const list of this.#lists) list.lookAhead?.();
  }

  [Symbol.dispose](): void {
    for (const list of this.#lists) list[Symbol.dispose]?.();
  }
}

/** All samples of a list, one by one. */
export function eachSample(
  list: SampleList,
): Iterable<TokenizedSample> & { readonly length: number } {
  return {
    length: list.length,
    *[Symbol.iterator]() {
      for (const group of list) yield* group;
    },
  };
}
