/**
 * The tokens that a tokenizer's settings name: `bos_token`, `pad_token`, `additional_special_tokens` and
 * `added_tokens_decoder`, gathered from all files as `transformers` 5.18 does.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { brief, isObject } from "../../files/json_file.ts";
import { type AddedToken, addedToken, tokenFromJson } from "./pipeline/added_tokens.ts";

/** The names that every tokenizer has, in the library's order. */
export const TOKEN_NAMES = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
];

/** A token by its text alone, or with its settings. */
export type Named = string | AddedToken;

/** The text of a token. */
export function textOf(token: Named): string {
  return typeof token === "string" ? token : token.content;
}

/** JSON files of a tokenizer's folder; absent ones are undefined. */
export interface SettingsFiles {
  /** What to call the folder's files in messages. */
  path(name: string): string;
  tokenizer_config: Record<string, unknown> | undefined;
  special_tokens_map: Record<string, unknown> | undefined;
  added_tokens: Record<string, unknown> | undefined;
  /** `added_tokens` of tokenizer.json, where there is one. */
  tokenizer_json: readonly (AddedToken & { id: number })[] | undefined;
}

/** What the settings say of tokens. */
export interface NamedTokens {
  /** By name. `null` says that there is none, whatever the class has. */
  named: Map<string, Named | null>;
  /** Control tokens without a name; undefined where no file lists any. */
  extra: Named[] | undefined;
  /** Such tokens in places where those of a tokenizer.model come before them. */
  older: Named[] | undefined;
  /** Tokens with the ids that the files give them, by id. */
  decoder: [number, AddedToken][];
}

/** A token's settings from JSON. @param where File and key, for the message. */
function readToken(value: unknown, where: string, special = false): AddedToken {
  if (isObject(value) && typeof value.content === "string") {
    return tokenFromJson(value.content, value, special);
  }
  throw new UserError(`${where} is ${brief(value)}, expected a token with a content`);
}

function readNamed(value: unknown, where: string, special = false): Named {
  return typeof value === "string" ? value : readToken(value, where, special);
}

function readList(value: unknown, where: string, special = false): Named[] {
  if (!Array.isArray(value)) {
    throw new UserError(`${where} is ${brief(value)}, expected a list of tokens`);
  }
  return value.map((token) => readNamed(token, where, special));
}

/** `added_tokens_decoder` of tokenizer_config.json. */
function readDecoder(value: unknown, where: string): [number, AddedToken][] {
  if (!isObject(value)) throw new UserError(`${where} is ${brief(value)}, expected an object`);
  return Object.entries(value).map(([id, token]): [number, AddedToken] => {
    if (!/^\d{1,8}$/.test(id)) {
      throw new UserError(`${where} has the id ${brief(id)}, expected a whole number`);
    }
    return [Number(id), readToken(token, `${where}["${id}"]`)];
  });
}

/** Tokens in the order of their ids; of several with one id the last. */
function byId(tokens: Iterable<[number, AddedToken]>): [number, AddedToken][] {
  return [...new Map(tokens)].sort(([a], [b]) => a - b);
}

/** What tokenizer_config.json says by itself. */
function fromConfig(files: SettingsFiles): Omit<NamedTokens, "decoder"> {
  const config = files.tokenizer_config ?? {};
  const where = (key: string) => `${files.path("tokenizer_config.json")}: ${key}`;
  const named: NamedTokens["named"] = new Map();
  for (const [key, value] of Object.entries(config)) {
    if (!key.endsWith("_token")) continue;
    if (TOKEN_NAMES.includes(key)) {
      named.set(key, value === null ? null : readNamed(value, where(key)));
    } else if (typeof value === "string" || (isObject(value) && value.__type === "AddedToken")) {
      named.set(key, readNamed(value, where(key)));
    }
  }
  const { extra_special_tokens, additional_special_tokens } = config;
  const isFilled = (value: unknown) =>
    Array.isArray(value) ? value.length > 0 : isObject(value) && Object.keys(value).length > 0;
  const key = isFilled(extra_special_tokens) || additional_special_tokens === undefined
    ? "extra_special_tokens"
    : "additional_special_tokens";
  const extra = config[key] ?? undefined;
  if (isObject(extra)) {
    for (const [name, token] of Object.entries(extra)) {
      named.set(name, readNamed(token, where(`${key}.${name}`)));
    }
    const others = additional_special_tokens ?? undefined;
    const older = others && readList(others, where("additional_special_tokens"));
    return { named, extra: undefined, older };
  }
  const list = extra === undefined ? undefined : readList(extra, where(key));
  return { named, extra: list, older: undefined };
}

/** What special_tokens_map.json says, over what tokenizer_config.json said. */
function overlayMap(tokens: Omit<NamedTokens, "decoder">, files: SettingsFiles): void {
  const where = (key: string) => `${files.path("special_tokens_map.json")}: ${key}`;
  for (const [key, value] of Object.entries(files.special_tokens_map ?? {})) {
    if (key === "extra_special_tokens" && Array.isArray(value)) {
      const known = new Set(tokens.extra?.map(textOf));
      const more = readList(value, where(key), true);
      tokens.extra = [...tokens.extra ?? [], ...more.filter((token) => !known.has(textOf(token)))];
    } else if (key === "extra_special_tokens" && isObject(value)) {
      for (const [name, token] of Object.entries(value)) {
        tokens.named.set(name, readNamed(token, where(`${key}.${name}`), true));
      }
    } else if (key === "additional_special_tokens") {
      tokens.older = readList(value, where(key), true);
    } else if (value === null) tokens.named.set(key, null);
    else tokens.named.set(key, readNamed(value, where(key), true));
  }
}

/**
 * What added_tokens.json lists: tokens and their ids. Control tokens are those that are named; of tokenizer_config.json,
 * those that are named by their text alone.
 */
function readAddedFile(
  { named, extra = [] }: Omit<NamedTokens, "decoder">,
  files: SettingsFiles,
): [number, AddedToken][] {
  const byText = (name: string) =>
    files.special_tokens_map?.[name] !== undefined || !isObject(files.tokenizer_config?.[name]);
  const names = TOKEN_NAMES.filter(byText).flatMap((name) => named.get(name) ?? []);
  const special = new Set([
    ...names.map(textOf),
    ...extra.filter((token) => typeof token === "string"),
  ]);
  return Object.entries(files.added_tokens ?? {}).map(([content, id]): [number, AddedToken] => {
    if (!Number.isSafeInteger(id) || (id as number) < 0) {
      throw new UserError(
        `${files.path("added_tokens.json")}: ${brief(content)} is ${brief(id)}, expected an id`,
      );
    }
    return [id as number, addedToken(content, { special: special.has(content) })];
  });
}

/**
 * Gathers the tokens. Where tokenizer_config.json has an `added_tokens_decoder`, the older files beside it
 * say nothing more: special_tokens_map.json and added_tokens.json are then not looked at.
 *
 * @throws {UserError} naming the file and the entry that is wrong.
 */
export function namedTokens(files: SettingsFiles): NamedTokens {
  const tokens = fromConfig(files);
  const given = files.tokenizer_config?.added_tokens_decoder;
  let decoder: [number, AddedToken][];
  if (given !== undefined) {
    const where = `${files.path("tokenizer_config.json")}: added_tokens_decoder`;
    decoder = byId(readDecoder(given, where));
  } else {
    overlayMap(tokens, files);
    decoder = byId([
      ...readAddedFile(tokens, files),
      ...(files.tokenizer_json ?? []).map(({ id, ...token }): [number, AddedToken] => [id, token]),
    ]);
  }
  // A token that is named by its text alone has the settings that the lists give it.
  const listed = new Map(decoder.map(([, token]) => [token.content, token]));
  for (const name of TOKEN_NAMES) {
    const token = tokens.named.get(name);
    if (token) tokens.named.set(name, listed.get(textOf(token)) ?? token);
  }
  return { ...tokens, decoder };
}
