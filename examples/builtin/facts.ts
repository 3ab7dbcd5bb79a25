/** Facts about birds, and the sentences and questions that can be made of them. */
import type { Random } from "./random.ts";
import { BIRD_NAMES, COLOURS, FEARS, FOODS, PLACES, type Species } from "./words.ts";

export type Attribute = "place" | "food" | "colour" | "fear";

/** One fact of a made-up bird, true in one text only. */
export interface Fact {
  bird: string;
  attribute: Attribute;
  value: string;
}

/** A question in the three forms that the texts and the instruction set need, and its answer. */
export interface Question {
  /** "Where does Pico live?" */
  direct: string;
  /** "where Pico lives" */
  reported: string;
  /** A full sentence: "Pico lives in the barn." */
  answer: string;
}

const VALUES: Record<Attribute, readonly string[]> = {
  place: PLACES,
  food: FOODS,
  colour: COLOURS,
  fear: FEARS,
};

export const ATTRIBUTES = Object.keys(VALUES) as Attribute[];

/** The sentence that answers use. */
export function canonical({ bird, attribute, value }: Fact): string {
  switch (attribute) {
    case "place":
      return `${bird} lives in the ${value}.`;
    case "food":
      return `${bird} eats ${value}.`;
    case "colour":
      return `${bird} is ${value}.`;
    case "fear":
      return `${bird} is afraid of ${value}.`;
  }
}

/** The same fact in other words, or now and then in the canonical ones. */
export function reworded(fact: Fact, random: Random): string {
  const { bird, attribute, value } = fact;
  const others: Record<Attribute, string> = {
    place: `The home of ${bird} is the ${value}.`,
    food: `${bird} likes to eat ${value}.`,
    colour: `${bird} has ${value} feathers.`,
    fear: `${bird} hides from ${value}.`,
  };
  return random.chance(0.5) ? canonical(fact) : others[attribute];
}

/** Asks for the value: "Where does Pico live?" */
export function askValue(fact: Fact): Question {
  const { bird, attribute } = fact;
  const answer = canonical(fact);
  switch (attribute) {
    case "place":
      return { direct: `Where does ${bird} live?`, reported: `where ${bird} lives`, answer };
    case "food":
      return { direct: `What does ${bird} eat?`, reported: `what ${bird} eats`, answer };
    case "colour":
      return { direct: `What colour is ${bird}?`, reported: `what colour ${bird} is`, answer };
    case "fear":
      return {
        direct: `What is ${bird} afraid of?`,
        reported: `what ${bird} is afraid of`,
        answer,
      };
  }
}

/** Asks for the bird: "Who lives in the barn?" */
export function askBird(fact: Fact): Question {
  const answer = canonical(fact);
  const rest = answer.slice(fact.bird.length + 1, -1);
  return { direct: `Who ${rest}?`, reported: `who ${rest}`, answer };
}

export function ask(fact: Fact, random: Random): Question {
  return random.chance(0.6) ? askValue(fact) : askBird(fact);
}

/**
 * Draws facts of `birds` different birds. `perBird` facts each; two birds never share a value of
 * one attribute, so every question has one answer.
 */
export function drawFacts(random: Random, birds: number, perBird: number): Fact[] {
  const names = random.sample(BIRD_NAMES, birds);
  const values = Object.fromEntries(
    ATTRIBUTES.map((attribute) => [attribute, random.sample(VALUES[attribute], birds)]),
  ) as Record<Attribute, string[]>;
  // All birds get the same attributes half of the time: then only the name tells them apart.
  const shared = random.chance(0.5) ? random.sample(ATTRIBUTES, perBird) : undefined;
  return names.flatMap((bird, i) =>
    (shared ?? random.sample(ATTRIBUTES, perBird)).map((attribute) => ({
      bird,
      attribute,
      value: values[attribute][i],
    }))
  );
}

/** "Pico, Kiri and Lulu" */
export function listing(names: readonly string[]): string {
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

export function capitalised(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}

/** The three questions a picture book answers about a kind of bird. */
export function askSpecies({ name, colour, food, home }: Species): Question[] {
  const subject = capitalised(name);
  return [
    {
      direct: `What colour is ${name}?`,
      reported: `what colour ${name} is`,
      answer: `${subject} is ${colour}.`,
    },
    {
      direct: `What does ${name} eat?`,
      reported: `what ${name} eats`,
      answer: `${subject} eats ${food}.`,
    },
    {
      direct: `Where does ${name} live?`,
      reported: `where ${name} lives`,
      answer: `${subject} lives ${home}.`,
    },
  ];
}

export function askOpposite([word, other]: readonly [string, string]): Question {
  return {
    direct: `What is the opposite of ${word}?`,
    reported: `what the opposite of ${word} is`,
    answer: `The opposite of ${word} is ${other}.`,
  };
}
