/**
 * Few-shot examples: rows that are shown with their answers before a question, chosen as lm_eval/api/samplers.py does.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { str } from "../../model/text/templates/jinja/repr.ts";
import { Text } from "../../model/text/templates/jinja/text.ts";
import { Dict, List, text, type Value } from "../../model/text/templates/jinja/values.ts";
import type { Document, Split } from "./documents.ts";
import { Random } from "./python/random.ts";
import type { Task } from "./task.ts";
import { isYamlObject, type YamlValue } from "./yaml_file.ts";

/** The examples for a row that is evaluated. Called row by row: what is drawn depends on what was drawn before. */
export type Sampler = (evaluated: Document) => Document[];

/** A text that is the same for rows that Python takes for equal. */
function keyOf(value: Value): string {
  if (value instanceof Dict) {
    return `{${value.items().map(([key, item]) => `${keyOf(key)}:${keyOf(item)}`).sort().join()}}`;
  }
  if (value instanceof List) return `[${value.items.map(keyOf).join()}]`;
  if (value instanceof Text) return JSON.stringify(value.value);
  if (typeof value === "number" && Number.isInteger(value)) return String(BigInt(value));
  if (typeof value === "boolean") return value ? "1" : "0";
  return value === null || typeof value === "bigint" || typeof value === "number"
    ? String(value)
    : "-";
}

/** A value of YAML as templates see it. */
function fromYaml(value: YamlValue): Value {
  if (typeof value === "string") return text(value);
  if (Array.isArray(value)) return new List(value.map(fromYaml));
  if (isYamlObject(value)) {
    return new Dict(Object.entries(value).map(([key, item]) => [text(key), fromYaml(item)]));
  }
  return value === null || typeof value !== "object" ? value : str(null);
}

/** A row of the pool, with what tells it from others where that is asked. */
interface PoolRow {
  document: Document;
  key: string;
}

/** The rows that examples come from. */
async function poolOf(
  { keys, fewshot, samples, where }: Task,
  read: (split: string) => Promise<Split>,
): Promise<readonly Document[]> {
  const split = fewshot.split ?? keys.fewshot_split;
  if (split === undefined && samples !== undefined) {
    return samples.map((sample, i) => ({
      where: () => `${where}: fewshot_config.samples[${i}]`,
      fields: new Dict(
        Object.entries(sample).map(([key, value]) => [text(key), fromYaml(value)]),
      ),
    }));
  }
  const name = split ?? keys.training_split ?? keys.validation_split ?? keys.test_split ?? "";
  return (await read(name)).documents;
}

/**
 * What chooses examples: the first of their split, or those that Python's `random` draws with the seed. Where they are
 * from the split that is evaluated, none of them equals the row.
 *
 * @throws {UserError} where there are not so many.
 */
export async function fewshotPool(
  task: Task,
  read: (split: string) => Promise<Split>,
  { count, seed }: { count: number; seed: number },
): Promise<Sampler> {
  const { keys, fewshot, where } = task;
  const pool = await poolOf(task, read);
  const excludes = (fewshot.split ?? keys.fewshot_split) === keys.test_split;
  const draws = fewshot.sampler === "default";
  const needed = count + (draws && excludes ? 1 : 0);
  if (pool.length < needed) {
    throw new UserError(
      `${where}: num_fewshot ${count} asks for ${needed} rows to choose from, and there are ${pool.length}; expected ` +
        "fewer examples",
    );
  }
  const rows = pool.map((document): PoolRow => ({
    document,
    key: excludes ? keyOf(document.fields) : "",
  }));
  const random = new Random(BigInt(seed));
  const first = (others: Iterable<PoolRow>) => Iterator.from(others).take(count).toArray();
  return (evaluated) => {
    const own = excludes ? keyOf(evaluated.fields) : undefined;
    const isOther = ({ key }: PoolRow) => own === undefined || key !== own;
    const others = () => rows.values().filter(isOther);
    let chosen = draws ? first(random.sample(rows, needed).filter(isOther)) : first(others());
    if (draws && chosen.length < count) {
      // More rows than one may equal the one that is evaluated.
      const left = others().toArray();
      if (left.length >= count) chosen = random.sample(left, count);
    }
    if (chosen.length === count) return chosen.map(({ document }) => document);
    throw new UserError(
      `${evaluated.where()}, ${where}: fewer than ${count} rows differ from it; expected a smaller num_fewshot`,
    );
  };
}
