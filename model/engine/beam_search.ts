/**
 * The state of beam search for one prompt: the live beams and the finished hypotheses.
 *
 * As in transformers with `early_stopping=False`: every step, all live beams' candidates are ordered by the sum of
 * their tokens' log-probabilities. A stop token among the first `beams` of them finishes a hypothesis; the first
 * `beams` others live on. A hypothesis' score is sum / length^lengthPenalty (Wu et al., "Google's Neural Machine
 * Translation System", 2016, without the constants), where length counts the generated tokens and the
 * stop token that ends them.
 *
 * @module
 */

/** What a search needs to know. */
export interface BeamSearchOptions {
  /** Sequences kept alive, and hypotheses kept. */
  beams: number;
  /** Most tokens a hypothesis may have; live beams of this length become hypotheses. */
  maxTokens: number;
  /** Above 0 favours long sequences, below 0 short ones; 0 compares sums, 1 means per token. */
  lengthPenalty: number;
  /** Tokens that end a sequence. */
  stop: readonly number[];
}

/** The most likely next tokens of every live beam, row-major `[live, width]`, most likely first. */
export interface BeamCandidates {
  ids: ArrayLike<number>;
  /** Log-probabilities; −infinity is never chosen. */
  logprobs: ArrayLike<number>;
}

/** How a beam goes on: the row of its parent among the live beams so far, and its new token. */
export interface Continuation {
  parent: number;
  token: number;
}

/** A finished sequence. */
export interface Hypothesis {
  /** Generated tokens; the last is a stop token where `stopped`. */
  ids: number[];
  stopped: boolean;
  /** Sum of the tokens' log-probabilities. */
  logprob: number;
  score: number;
}

interface Beam {
  ids: number[];
  logprob: number;
}

/** One search. It begins with one live beam, the prompt. */
export class BeamSearch {
  #live: Beam[] = [{ ids: [], logprob: 0 }];
  /** Best first. */
  #hypotheses: Hypothesis[] = [];
  #length = 0;

  constructor(readonly options: BeamSearchOptions) {}

  /** Candidates a row needs, so that all beams can live on whatever stops; 2 · beams as a rule. */
  get width(): number {
    const { beams, stop } = this.options;
    return beams + Math.max(beams, stop.length);
  }

  /** Rows whose candidates {@linkcode advance} takes next; 0 when the search is done. */
  get live(): number {
    return this.#live.length;
  }

  /** The finished sequences, best first; at most `beams`. */
  get hypotheses(): readonly Hypothesis[] {
    return this.#hypotheses;
  }

  /**
   * Takes one step. Returns the new live beams, best first; none when the search is done.
   *
   * @param candidates At least {@linkcode width} for each row, or the whole vocabulary.
   */
  advance({ ids, logprobs }: BeamCandidates): Continuation[] {
    const { beams, maxTokens, stop } = this.options;
    const width = ids.length / this.#live.length;
    const candidates = Array.from(ids, (token, i) => {
      const parent = Math.floor(i / width);
      return { parent, token, logprob: this.#live[parent].logprob + logprobs[i] };
    });
    // The sort is stable: among equals, the better parent's and then its likelier token come first.
    const ordered = candidates.filter(({ logprob }) => logprob > -Infinity)
      .sort((a, b) => b.logprob - a.logprob);
    this.#length++;
    const next: Beam[] = [], continuations: Continuation[] = [];
    for (const [rank, { parent, token, logprob }] of ordered.entries()) {
      if (next.length === beams) break;
      const beam = { ids: [...this.#live[parent].ids, token], logprob };
      if (stop.includes(token)) {
        if (rank < beams) this.#finish(beam, true);
      } else {
        next.push(beam);
        continuations.push({ parent, token });
      }
    }
    if (this.#length >= maxTokens) {
      for (const beam of next) this.#finish(beam, false);
    } else if (next.length > 0 && !this.#decided(next[0])) {
      this.#live = next;
      return continuations;
    }
    this.#live = [];
    return [];
  }

  #score(logprob: number): number {
    return logprob / this.#length ** this.options.lengthPenalty;
  }

  /** Whether the best live beam, judged by its present length, can't beat the worst hypothesis. */
  #decided(best: Beam): boolean {
    const { beams } = this.options;
    return this.#hypotheses.length === beams &&
      this.#hypotheses[beams - 1].score >= this.#score(best.logprob);
  }

  /** Keeps a hypothesis if it is among the best `beams`. */
  #finish({ ids, logprob }: Beam, stopped: boolean): void {
    const score = this.#score(logprob);
    const worse = this.#hypotheses.findIndex((other) => other.score < score);
    this.#hypotheses.splice(worse < 0 ? this.#hypotheses.length : worse, 0, {
      ids,
      stopped,
      logprob,
      score,
    });
    this.#hypotheses.length = Math.min(this.#hypotheses.length, this.options.beams);
  }
}

/** A slot's contents to be copied to another slot. */
export interface SlotCopy {
  from: number;
  to: number;
}

/**
 * Cache slots for the children of live beams: of each parent's children, the first takes over its slot and the others
 * get copies in slots that no surviving parent holds, the lowest first. No slot is both read and written
 * by the copies and none is written twice, so their order doesn't matter.
 *
 * @param parents The parent row of each child.
 * @param slots The slot of each parent row.
 * @param capacity How many slots there are, numbered from 0; at least as many as children.
 */
export function assignSlots(
  parents: readonly number[],
  slots: readonly number[],
  capacity: number,
): { slots: number[]; copies: SlotCopy[] } {
  const surviving = new Set(parents.map((parent) => slots[parent]));
  const free = Array.from({ length: capacity }, (_, slot) => slot)
    .filter((slot) => !surviving.has(slot));
  const copies: SlotCopy[] = [];
  const inherited = new Set<number>();
  const assigned = parents.map((parent) => {
    const from = slots[parent];
    if (!inherited.has(from)) {
      inherited.add(from);
      return from;
    }
    const to = free.shift();
    if (to === undefined) throw new Error(`${parents.length} beams do not fit ${capacity} slots`);
    copies.push({ from, to });
    return to;
  });
  return { slots: assigned, copies };
}
