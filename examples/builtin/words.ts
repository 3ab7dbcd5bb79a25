/**
 * The word lists of the built-in example: everything its small world is made of.
 *
 * Each list is short enough for a model of a million parameters and long enough that a held-out
 * prompt can combine words in a way the instruction set never does.
 */

/** The birds that stories are about. Their facts are drawn anew for every text. */
export const BIRD_NAMES = [
  "Bibi",
  "Coco",
  "Daisy",
  "Gigi",
  "Hugo",
  "Juno",
  "Kiri",
  "Lulu",
  "Mango",
  "Milo",
  "Otto",
  "Pepe",
  "Pico",
  "Rio",
  "Ruby",
  "Suki",
  "Sunny",
  "Tango",
  "Yuki",
  "Zaza",
];

/** The people who ask and answer in the stories. */
export const PEOPLE = [
  "Ana",
  "Ben",
  "Leo",
  "Mia",
  "Sam",
  "Zoe",
];

export const PLACES = [
  "attic",
  "bakery",
  "barn",
  "castle",
  "cave",
  "forest",
  "garden",
  "jungle",
  "library",
  "market",
  "mill",
  "palace",
  "school",
  "tower",
];

export const FOODS = [
  "apples",
  "beans",
  "berries",
  "bread",
  "cake",
  "cherries",
  "corn",
  "figs",
  "honey",
  "nuts",
  "pears",
  "plums",
  "rice",
  "seeds",
];

export const COLOURS = [
  "black",
  "blue",
  "brown",
  "green",
  "orange",
  "pink",
  "purple",
  "red",
  "white",
  "yellow",
];

export const FEARS = [
  "bees",
  "bells",
  "cats",
  "drums",
  "foxes",
  "frogs",
  "ghosts",
  "mice",
  "rain",
  "snow",
  "spiders",
  "wind",
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
  ["a crow", "black", "corn", "in the fields"],
  ["a dove", "white", "seeds", "on the farm"],
  ["a duck", "brown", "plants", "on the pond"],
  ["an eagle", "brown", "hares", "in the mountains"],
  ["a falcon", "grey", "birds", "on the cliffs"],
  ["a flamingo", "pink", "shrimps", "by the lake"],
  ["a goose", "grey", "grass", "on the farm"],
  ["a gull", "white", "fish", "by the sea"],
  ["a hen", "brown", "corn", "on the farm"],
  ["a heron", "grey", "fish", "in the marsh"],
  ["a jay", "blue", "acorns", "in the woods"],
  ["a kingfisher", "blue", "fish", "by the river"],
  ["a lark", "brown", "seeds", "in the fields"],
  ["a lorikeet", "green", "nectar", "in the gum trees"],
  ["a macaw", "red", "nuts", "in the jungle"],
  ["a magpie", "black", "beetles", "in the town"],
  ["an ostrich", "black", "grass", "on the plains"],
  ["an owl", "brown", "mice", "in the forest"],
  ["a parakeet", "green", "seeds", "in the park"],
  ["a peacock", "blue", "seeds", "in the park"],
  ["a penguin", "black", "fish", "on the ice"],
  ["a puffin", "black", "fish", "on the cliffs"],
  ["a raven", "black", "meat", "on the cliffs"],
  ["a sparrow", "brown", "seeds", "in the town"],
  ["a stork", "white", "frogs", "on the roofs"],
  ["a swallow", "blue", "flies", "in the barn"],
  ["a swan", "white", "plants", "on the pond"],
  ["a toucan", "black", "fruit", "in the jungle"],
  ["a turkey", "brown", "acorns", "in the woods"],
  ["a woodpecker", "black", "ants", "in the forest"],
].map(([name, colour, food, home]) => ({ name, colour, food, home }));

/** Pairs of opposites; each is asked both ways. */
export const OPPOSITES: [string, string][] = [
  ["hot", "cold"],
  ["big", "small"],
  ["day", "night"],
  ["up", "down"],
  ["wet", "dry"],
  ["fast", "slow"],
  ["old", "new"],
  ["open", "closed"],
  ["full", "empty"],
  ["light", "dark"],
  ["loud", "quiet"],
  ["high", "low"],
  ["hard", "soft"],
  ["happy", "sad"],
  ["early", "late"],
  ["near", "far"],
  ["long", "short"],
  ["strong", "weak"],
  ["clean", "dirty"],
  ["rich", "poor"],
  ["left", "right"],
  ["first", "last"],
  ["north", "south"],
  ["summer", "winter"],
  ["love", "hate"],
];
