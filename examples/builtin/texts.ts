/**
 * The kinds of plain text the model is pretrained on. All of them state facts first or questions
 * first and restate a fact later, so that the model learns to look things up in what it has read.
 * None of them has the form of an instruction with a response.
 */
import {
  ask,
  askOpposite,
  askSpecies,
  canonical,
  capitalised,
  drawFacts,
  type Fact,
  listing,
  type Question,
  reworded,
} from "./facts.ts";
import type { Random } from "./random.ts";
import { BIRD_NAMES, COLOURS, FEARS, FOODS, OPPOSITES, PEOPLE, PLACES, SPECIES } from "./words.ts";

/** Makes one document. */
type Writer = (random: Random) => string;

const OPENINGS = [
  "It is a warm day and the birds are awake.",
  "The sun is up and the birds sing.",
  "This is a story about some birds.",
  "One morning the birds met in the old fig tree.",
  "It rains, so the birds sit close together.",
  "Once there were a few birds who were good friends.",
  "The wind is soft and the trees are full of birds.",
];

const ENDINGS = [
  "Then the birds fly home.",
  "At night all the birds sleep.",
  "And that is the end of the story.",
  "The birds sing until the moon is high.",
  "Tomorrow they will meet again.",
];

const FILLERS = [
  "The birds sing together.",
  "A leaf falls from the tree.",
  "The sky is wide and clear.",
  "They talk all day long.",
  "Everyone is happy.",
];

const REMINDERS = [
  "So",
  "As we know,",
  "Yes,",
  "Of course",
  "You see,",
  "Remember,",
  "That is why",
];

function passage(facts: readonly Fact[], random: Random): string {
  return facts.map((fact) => reworded(fact, random)).join(" ");
}

function someFacts(random: Random): Fact[] {
  const birds = random.integer(2, 4);
  const facts = drawFacts(random, birds, birds > 2 ? 1 : random.integer(1, 2));
  return random.chance(0.5) ? facts : random.shuffle(facts);
}

function birdsOf(facts: readonly Fact[]): string[] {
  return [...new Set(facts.map((fact) => fact.bird))];
}

/** Facts, then some of them again in the plain words. */
function story(random: Random): string {
  const facts = someFacts(random);
  const again = random.sample(facts, random.integer(2, 5));
  return [
    ...(random.chance(0.6) ? [random.pick(OPENINGS)] : []),
    passage(facts, random),
    ...(random.chance(0.4) ? [random.pick(FILLERS)] : []),
    ...(random.chance(0.3) ? [`The birds are ${listing(birdsOf(facts))}.`] : []),
    ...again.map((fact) =>
      random.chance(0.5) ? canonical(fact) : `${random.pick(REMINDERS)} ${canonical(fact)}`
    ),
    ...(random.chance(0.6) ? [random.pick(ENDINGS)] : []),
  ].join(" ");
}

/** "Where does Pico live?" asks Ana. "Pico lives in the barn." */
function exchange({ direct, reported, answer }: Question, random: Random): string {
  const one = random.pick(PEOPLE);
  return random.pick([
    `${direct} ${answer}`,
    `"${direct}" asks ${one}. "${answer}"`,
    `${one} asks ${reported}. ${answer}`,
  ]);
}

/** Facts, then people who talk about them. */
function talk(random: Random): string {
  const facts = someFacts(random);
  const asked = random.sample(facts, random.integer(2, 4));
  return [
    passage(facts, random),
    ...asked.map((fact) => exchange(ask(fact, random), random)),
  ].join(" ");
}

/** The question comes first, then the facts, then the answer. */
function search(random: Random): string {
  const facts = someFacts(random);
  const [one, two] = random.sample(PEOPLE, 2);
  const { direct, reported, answer } = ask(random.pick(facts), random);
  const text = passage(facts, random);
  return random.pick([
    `${one} wants to know ${reported}. ${text} Now ${one} knows it. ${answer}`,
    `"${direct}" asks ${one}. ${text} "${answer}"`,
    `${direct}\n${text}\n${answer}`,
    `${direct}\n${text}\n${answer}`,
    `Dear ${two},\n${direct}\nYours, ${one}\n\nDear ${one},\n${text}\n${answer}\nYours, ${two}`,
  ]);
}

/** A notebook page: short lines, then sentences. */
function notebook(random: Random): string {
  const facts = someFacts(random);
  const lines = birdsOf(facts).map((bird) =>
    `${bird}: ${facts.filter((fact) => fact.bird === bird).map((fact) => fact.value).join(", ")}`
  );
  const again = random.sample(facts, random.integer(2, 4)).map(canonical);
  return [`Notes of ${random.pick(PEOPLE)}`, ...lines, ...again].join("\n");
}

/** Facts, then who they were about. */
function rollCall(random: Random): string {
  const facts = someFacts(random);
  const names = listing(birdsOf(facts));
  const one = random.pick(PEOPLE);
  const text = passage(facts, random);
  return random.pick([
    `${text} The birds of this story are ${names}.`,
    `${one} wants to name the birds. ${text} Now ${one} can name them: ${names}.`,
    `Name the birds.\n${text}\n${names}.`,
    `${text}\n${names}.`,
  ]);
}

/**
 * A song whose verse comes again word for word. The words are drawn freely, so only copying can
 * foretell the second verse: it is what teaches the model to copy early.
 */
function song(random: Random): string {
  const words = random.pick([
    BIRD_NAMES,
    BIRD_NAMES,
    [...BIRD_NAMES, ...PEOPLE, ...FOODS, ...COLOURS],
    PLACES.map((place) => `the ${place}`),
    [...FOODS, ...FEARS],
  ]);
  const drawn = random.sample(words, random.integer(6, 12));
  const verse = drawn.join(random.pick([" ", " ", ", "]));
  return random.pick([
    `${verse}\n${verse}`,
    `${verse}. ${verse}.`,
    `${random.pick(PEOPLE)} sings: "${verse}. ${verse}."`,
  ]);
}

/** A page of a picture book about one to three kinds of bird. */
function pictureBook(random: Random): string {
  return random.sample(SPECIES, random.integer(1, 3)).map((species) => {
    const { name, colour, food, home } = species;
    return random.pick([
      `${capitalised(name)} is ${colour}. It eats ${food}. It lives ${home}.`,
      `${capitalised(name)} lives ${home} and eats ${food}. Its feathers are ${colour}.`,
      random.shuffle(askSpecies(species)).map((question) => question.answer).join(" "),
      random.shuffle(askSpecies(species)).map((question) => question.answer).join("\n"),
    ]);
  }).join(" ");
}

/** People who talk about kinds of birds. */
function birdTalk(random: Random): string {
  return random.sample(SPECIES, random.integer(1, 3)).map((species) =>
    exchange(random.pick(askSpecies(species)), random)
  ).join(" ");
}

function eitherWay(random: Random): [string, string] {
  const [word, other] = random.pick(OPPOSITES);
  return random.chance(0.5) ? [word, other] : [other, word];
}

/** Opposites, in lines or in talk. */
function opposites(random: Random): string {
  const separator = random.pick([" ", "\n"]);
  return Array.from({ length: random.integer(2, 4) }, () => {
    const pair = eitherWay(random);
    const question = askOpposite(pair);
    return random.pick([
      question.answer,
      `Not ${pair[0]} means ${pair[1]}.`,
      `The words ${pair[0]} and ${pair[1]} are opposites.`,
      exchange(question, random),
    ]);
  }).join(separator);
}

const WRITERS: [Writer, number][] = [
  [story, 0.18],
  [talk, 0.22],
  [search, 0.26],
  [notebook, 0.02],
  [rollCall, 0.1],
  [pictureBook, 0.06],
  [birdTalk, 0.08],
  [opposites, 0.08],
];

/**
 * One document of plain text, of at most 250 tokens. `progress` (0 to 1) is how far into the corpus
 * it stands: songs come first, because copying is learnt from them in a hundred steps and looking
 * things up is learnt from copying.
 */
export function writeText(random: Random, progress: number): string {
  const songs = progress < 0.15 ? 1 : 0.08;
  if (random.chance(songs)) return song(random);
  let rest = random.next();
  for (const [writer, share] of WRITERS) {
    rest -= share;
    if (rest < 0) return writer(random);
  }
  return story(random);
}
