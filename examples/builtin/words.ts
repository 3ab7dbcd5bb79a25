/**
 * The word lists of the built-in example: everything its small world is made of.
 *
 * Each list is short enough for a model of a million parameters and long enough that a held-out
 * prompt can combine words in a way the instruction set never does.
 */

/** The birds that stories are about. Their facts are drawn anew for every text. */
export const BIRD_NAMES = [
  "Ada", "Basil", "Bibi", "Bruno", "Coco", "Daisy", "Dodo", "Fern", "Gigi", "Hazel", "Hugo", "Iris",
  "Jojo", "Juno", "Kiri", "Lulu", "Luna", "Mango", "Milo", "Momo", "Nemo", "Nina", "Otto", "Pepe",
  "Pico", "Pip", "Rio", "Ruby", "Suki", "Sunny", "Tango", "Tiki", "Yuki", "Zaza", "Zuri", "Clover",
];

/** The people who ask and answer in the stories. */
export const PEOPLE = [
  "Ana", "Ben", "Emil", "Eva", "Finn", "Ida", "Lea", "Leo", "Max", "Mia", "Nora", "Paul", "Rosa",
  "Sam", "Tom", "Zoe",
];

export const PLACES = [
  "attic", "bakery", "barn", "castle", "cave", "cellar", "chapel", "forest", "garden", "harbour",
  "jungle", "library", "market", "meadow", "mill", "museum", "orchard", "palace", "school", "stable",
  "station", "temple", "tower", "valley", "village",
];

export const FOODS = [
  "apples", "beans", "berries", "bread", "cake", "carrots", "cheese", "cherries", "corn", "figs",
  "grapes", "honey", "melons", "nuts", "oats", "peaches", "pears", "peas", "plums", "rice", "seeds",
  "snails", "worms",
];

export const COLOURS = [
  "black", "blue", "brown", "golden", "green", "grey", "orange", "pink", "purple", "red", "white",
  "yellow",
];

export const FEARS = [
  "bees", "bells", "cats", "drums", "fog", "foxes", "frogs", "ghosts", "hats", "mice", "mirrors",
  "rain", "smoke", "snow", "spiders", "thunder", "wind",
];

/** What a picture book says of a kind of bird. */
export interface Species {
  /** With its article: "a heron". */
  name: string;
  colour: string;
  food: string;
  /** With its preposition: "in the marsh". */
  home: string;
}

/** One line a species: name, colour, food, home. */
export const SPECIES: Species[] = [
  ["an albatross", "white", "squid", "on the ocean"],
  ["a blackbird", "black", "worms", "in the garden"],
  ["a bluebird", "blue", "insects", "in the meadow"],
  ["a canary", "yellow", "seeds", "in the bushes"],
  ["a cardinal", "red", "seeds", "in the woods"],
  ["a cockatoo", "white", "nuts", "in the forest"],
  ["a condor", "black", "meat", "in the mountains"],
  ["a cormorant", "black", "fish", "on the rocks"],
  ["a crane", "grey", "roots", "in the marsh"],
  ["a crow", "black", "corn", "in the fields"],
  ["a dove", "white", "seeds", "on the farm"],
  ["a duck", "brown", "plants", "on the pond"],
  ["an eagle", "brown", "hares", "in the mountains"],
  ["an emu", "brown", "plants", "on the plains"],
  ["a falcon", "grey", "birds", "on the cliffs"],
  ["a flamingo", "pink", "shrimps", "by the lake"],
  ["a goose", "grey", "grass", "on the farm"],
  ["a gull", "white", "fish", "by the sea"],
  ["a hen", "brown", "corn", "on the farm"],
  ["a heron", "grey", "fish", "in the marsh"],
  ["a hoopoe", "orange", "beetles", "on the plains"],
  ["a hummingbird", "green", "nectar", "in the jungle"],
  ["an ibis", "white", "frogs", "in the marsh"],
  ["a jay", "blue", "acorns", "in the woods"],
  ["a kingfisher", "blue", "fish", "by the river"],
  ["a lark", "brown", "seeds", "in the fields"],
  ["a lorikeet", "green", "nectar", "in the gum trees"],
  ["a macaw", "red", "nuts", "in the jungle"],
  ["a magpie", "black", "beetles", "in the town"],
  ["a nightingale", "brown", "insects", "in the bushes"],
  ["an oriole", "golden", "insects", "in the woods"],
  ["an ostrich", "black", "grass", "on the plains"],
  ["an owl", "brown", "mice", "in the forest"],
  ["a parakeet", "green", "seeds", "in the park"],
  ["a peacock", "blue", "seeds", "in the park"],
  ["a pelican", "white", "fish", "by the sea"],
  ["a penguin", "black", "fish", "on the ice"],
  ["a pigeon", "grey", "bread", "in the town"],
  ["a puffin", "black", "fish", "on the cliffs"],
  ["a quail", "brown", "seeds", "in the grass"],
  ["a raven", "black", "meat", "on the cliffs"],
  ["a sparrow", "brown", "seeds", "in the town"],
  ["a stork", "white", "frogs", "on the roofs"],
  ["a swallow", "blue", "flies", "in the barn"],
  ["a swan", "white", "plants", "on the pond"],
  ["a toucan", "black", "fruit", "in the jungle"],
  ["a turkey", "brown", "acorns", "in the woods"],
  ["a vulture", "brown", "meat", "in the desert"],
  ["a woodpecker", "black", "ants", "in the forest"],
  ["a wren", "brown", "spiders", "in the hedge"],
].map(([name, colour, food, home]) => ({ name, colour, food, home }));

/** Pairs of opposites; each is asked both ways. */
export const OPPOSITES: [string, string][] = [
  ["hot", "cold"], ["big", "small"], ["day", "night"], ["up", "down"], ["wet", "dry"],
  ["fast", "slow"], ["old", "new"], ["open", "closed"], ["full", "empty"], ["light", "dark"],
  ["loud", "quiet"], ["high", "low"], ["hard", "soft"], ["happy", "sad"], ["early", "late"],
  ["near", "far"], ["long", "short"], ["thick", "thin"], ["strong", "weak"], ["clean", "dirty"],
  ["rich", "poor"], ["sweet", "sour"], ["left", "right"], ["first", "last"], ["north", "south"],
  ["east", "west"], ["summer", "winter"], ["wide", "narrow"], ["rough", "smooth"],
  ["always", "never"], ["good", "bad"], ["true", "false"], ["begin", "end"], ["give", "take"],
  ["push", "pull"], ["win", "lose"], ["buy", "sell"], ["come", "go"], ["laugh", "cry"],
  ["love", "hate"], ["awake", "asleep"], ["brave", "timid"],
];
