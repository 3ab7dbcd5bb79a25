/** The instruction set: questions in Alpaca's form, with a passage to read or without. */
import {
  askBird,
  askOpposite,
  askSpecies,
  askValue,
  drawFacts,
  listing,
  type Question,
  reworded,
} from "./facts.ts";
import type { Random } from "./random.ts";
import { OPPOSITES, SPECIES } from "./words.ts";

/** One sample of Alpaca's format. */
export interface Sample {
  instruction: string;
  input: string;
  output: string;
}

/** How many samples of each kind. */
export interface Counts {
  /** "Where does Pico live?", with a passage. */
  value: number;
  /** "Who lives in the barn?", with a passage. */
  bird: number;
  /** "Name the birds.", with a passage. */
  names: number;
  /** "What does a heron eat?", from what was read in pretraining. */
  species: number;
  /** "What is the opposite of hot?", likewise. */
  opposite: number;
}

function reading(random: Random, askFor: typeof askValue): Sample {
  const facts = drawFacts(random, random.integer(2, 3), 1);
  const { direct, answer } = askFor(random.pick(facts));
  const input = facts.map((fact) => reworded(fact, random)).join(" ");
  return { instruction: direct, input, output: answer };
}

function naming(random: Random): Sample {
  const facts = drawFacts(random, random.integer(2, 3), 1);
  const input = facts.map((fact) => reworded(fact, random)).join(" ");
  const output = `${listing(facts.map((fact) => fact.bird))}.`;
  return { instruction: "Name the birds.", input, output };
}

function closedBook({ direct, answer }: Question): Sample {
  return { instruction: direct, input: "", output: answer };
}

/**
 * Draws the training samples and the held-out prompts. No kind of bird and no word of an opposite
 * is in both, and no held-out passage tells a fact that a training sample with a passage asks for.
 */
export function drawInstructions(
  random: Random,
  train: Counts,
  heldOut: Counts,
): { train: Sample[]; heldOut: Sample[] } {
  const species = random.shuffle(SPECIES);
  const pairs = random.shuffle(OPPOSITES);
  const closed = (
    trainCount: number,
    heldOutCount: number,
    groups: Question[][],
  ): [Sample[], Sample[]] => {
    // One question of each of the last groups is held out; the other groups may all be trained on.
    const held = groups.splice(groups.length - heldOutCount).map((group) => random.pick(group));
    const seen = random.shuffle(groups.flat()).slice(0, trainCount);
    return [seen.map(closedBook), held.map(closedBook)];
  };
  const [speciesSeen, speciesHeld] = closed(
    train.species,
    heldOut.species,
    species.map(askSpecies),
  );
  const [oppositesSeen, oppositesHeld] = closed(
    train.opposite,
    heldOut.opposite,
    pairs.map(([a, b]) => [askOpposite([a, b]), askOpposite([b, a])]),
  );
  const answered = new Set<string>();
  const open = (count: number, make: () => Sample): Sample[] => {
    const samples: Sample[] = [];
    while (samples.length < count) {
      const sample = make();
      if (answered.has(sample.output)) continue;
      answered.add(sample.output);
      samples.push(sample);
    }
    return samples;
  };
  const passages = (counts: Counts): Sample[] => [
    ...open(counts.value, () => reading(random, askValue)),
    ...open(counts.bird, () => reading(random, askBird)),
    ...open(counts.names, () => naming(random)),
  ];
  const trainSamples = [...passages(train), ...speciesSeen, ...oppositesSeen];
  return {
    train: random.shuffle(trainSamples),
    heldOut: [...passages(heldOut), ...speciesHeld, ...oppositesHeld],
  };
}
