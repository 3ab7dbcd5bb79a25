/**
 * What a reload of the page finds again. It stays in the tab, and goes with it.
 *
 * @module
 */
import type { Turn } from "./conversation.ts";

/** What is kept. */
export interface Kept {
  turns: Turn[];
  /** What was typed and not sent. */
  draft: string;
  /** The model of each column; empty before one was chosen. */
  models: string[];
  compares: boolean;
  probabilities: boolean;
  /** Settings as they were typed, by name. */
  settings: Record<string, string>;
}

const KEPT = "lorikeet.conversation";

const NOTHING: Kept = {
  turns: [],
  draft: "",
  models: [],
  compares: false,
  probabilities: false,
  settings: {},
};

/** Turns without what takes most room. */
function withoutTokens(turns: readonly Turn[]): Turn[] {
  return turns.map(({ prompt, answers }) => ({
    prompt,
    answers: answers.map((answer) => answer && { ...answer, tokens: undefined }),
  }));
}

/** What was kept, or nothing yet. Answers that were running have been broken off. */
export function readKept(): Kept {
  const kept: Kept = { ...NOTHING, ...JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") };
  for (const answer of kept.turns.flatMap(({ answers }) => answers)) {
    if (answer?.state === "running") answer.state = "stopped";
  }
  return kept;
}

/** Keeps it. @returns Whether there was room. */
export function keep(kept: Kept): boolean {
  for (const turns of [kept.turns, withoutTokens(kept.turns)]) {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, turns }));
      return true;
    } catch {
      // A browser gives a page some megabytes.
    }
  }
  return false;
}
