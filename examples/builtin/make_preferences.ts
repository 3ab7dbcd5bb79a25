/**
 * Writes the pairs of answers that examples/preference.yaml learns from:
 *
 *     deno run --allow-write examples/builtin/make_preferences.ts
 *
 * preferences.json gets the pairs to train on, preferences_held_out.json pairs about birds that those never name. Both answers
 * to a question are right: what is preferred is how they say it. The same seed gives the same files.
 */
import { askValue, type Attribute, canonical, drawFacts, type Fact } from "./facts.ts";
import { Random } from "./random.ts";

/** One row: a question about a passage, and two answers of which the first is preferred. */
interface Preference {
  instruction: string;
  input: string;
  chosen: string;
  rejected: string;
}

const SEED = 11, TRAINED = 120, HELD_OUT = 40;
/** Birds that only held-out pairs are about. */
const UNSEEN = new Set(["Daisy", "Kiri", "Otto", "Suki"]);

/** Kinds of facts that are to be told in other words than the texts' usual ones. */
const REWORDED: ReadonlySet<Attribute> = new Set(["place", "food"]);

/** The fact in other words than the usual ones. */
function otherwise({ bird, attribute, value }: Fact): string {
  switch (attribute) {
    case "place":
      return `The home of ${bird} is the ${value}.`;
    case "food":
      return `${bird} likes to eat ${value}.`;
    case "colour":
      return `${bird} has ${value} feathers.`;
    case "fear":
      return `${bird} hides from ${value}.`;
  }
}

/** The fact in the words that are preferred, and in those that are not. */
function wordings(fact: Fact): [chosen: string, rejected: string] {
  const [usual, other] = [canonical(fact), otherwise(fact)];
  return REWORDED.has(fact.attribute) ? [other, usual] : [usual, other];
}

function draw(random: Random, count: number, isUnseen: boolean): Preference[] {
  const rows = new Map<string, Preference>();
  while (rows.size < count) {
    const facts = drawFacts(random, 2, 1), asked = random.pick(facts);
    const fits = isUnseen ? UNSEEN.has(asked.bird) : facts.every(({ bird }) => !UNSEEN.has(bird));
    if (!fits) continue;
    // The passage has both wordings as often, so that no answer can be copied from it by rule.
    const input = facts.map((fact) => random.pick(wordings(fact))).join(" ");
    const [chosen, rejected] = wordings(asked);
    const row = { instruction: askValue(asked).direct, input, chosen, rejected };
    rows.set(JSON.stringify(row), row);
  }
  return [...rows.values()];
}

const random = new Random(SEED);
for (
  const [name, rows] of [
    ["preferences.json", draw(random, TRAINED, false)],
    ["preferences_held_out.json", draw(random, HELD_OUT, true)],
  ] as const
) {
  const lines = rows.map((row) => "  " + JSON.stringify(row));
  await Deno.writeTextFile(new URL(name, import.meta.url), `[\n${lines.join(",\n")}\n]\n`);
  console.log(`${name}: ${rows.length} pairs`);
}
