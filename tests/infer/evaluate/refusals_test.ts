/** Tasks and rows that `lorikeet evaluate` refuses, each with one sentence. */
import assert from "node:assert/strict";
import { type EvaluationSettings, prepareTask } from "../../../infer/evaluate/prepare.ts";
import { RequestEncoder } from "../../../infer/evaluate/encoding.ts";
import { makeRequests } from "../../../infer/evaluate/requests.ts";
import { loadTasks } from "../../../infer/evaluate/task_files.ts";
import { UserError } from "../../../kernels/errors.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { fileURLToPath } from "node:url";

const SETTINGS: EvaluationSettings = {
  limit: undefined,
  numFewshot: undefined,
  fewshotSeed: 1234,
  systemInstruction: undefined,
  chat: undefined,
  fewshotAsMultiturn: true,
};

const ROWS = [
  { q: "What is red?", choices: ["a", "b"], label: 1, extra: "x", half: 0.5 },
  { q: "What is blue?", choices: ["a", "b"], label: 0, half: 1 },
  { q: "What?", choices: [], label: 2, half: 1 },
].map((row) => JSON.stringify(row)).join("\n");

/** A task, with keys in place of or beside its own; undefined takes one away. */
function task(keys: Record<string, string | undefined> = {}): string {
  const all: Record<string, string | undefined> = {
    task: "t",
    dataset_path: "json",
    dataset_kwargs: "{data_files: {test: rows.jsonl}}",
    test_split: "test",
    output_type: "multiple_choice",
    doc_to_text: '"{{q}}"',
    doc_to_choice: "[a, b, c]",
    doc_to_target: "label",
    ...keys,
  };
  return Object.entries(all).filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}: ${value}`).join("\n");
}

/** Loads a task, and asks as much of it as can be asked without a model. */
async function prepare(folder: TemporaryFolder, source: string): Promise<void> {
  folder.file("rows.jsonl", ROWS);
  const { tasks } = loadTasks([folder.file("t.yaml", source)]);
  const model = fileURLToPath(new URL("../../../examples/builtin/model", import.meta.url));
  const encoder = new RequestEncoder(await loadTokenizer(model), 16);
  for (const one of tasks) makeRequests([await prepareTask(one, SETTINGS)], encoder);
}

/** What is refused, with words of the sentence. */
async function refuse(source: string, ...words: (string | RegExp)[]): Promise<void> {
  using folder = new TemporaryFolder();
  await assert.rejects(prepare(folder, source), (error) => {
    assert.ok(error instanceof UserError, `${error}`);
    assert.doesNotMatch(error.message, /\n/);
    for (const word of words) {
      if (typeof word === "string") assert.ok(error.message.includes(word), error.message);
      else assert.match(error.message, word);
    }
    return true;
  });
}

Deno.test("evaluate: a task that is right is taken as it is", async () => {
  using folder = new TemporaryFolder();
  await prepare(folder, task());
});

Deno.test("evaluate: keys that are wrong, unknown or not supported are refused by name", async () => {
  const generates = { output_type: "generate_until", doc_to_choice: undefined };
  const cases: [keys: Record<string, string | undefined>, ...words: (string | RegExp)[]][] = [
    [{ num_fewshots: "3" }, 't.yaml (task t): unknown key "num_fewshots"', '"num_fewshot"?'],
    [{ num_fewshot: "-1" }, "num_fewshot is -1; expected a whole number"],
    [{ task: undefined }, "task is missing"],
    [{ doc_to_text: undefined }, "doc_to_text is missing"],
    [{ doc_to_choice: undefined }, "doc_to_choice is missing, which multiple_choice needs"],
    [{ doc_to_choice: "[no, yes]" }, "doc_to_choice is [false,true]", "put it in quotes"],
    [{ doc_to_target: "!function utils.f" }, "doc_to_target is the Python function utils.f"],
    [{ process_docs: "!function utils.f" }, "process_docs is not supported"],
    [{ fewshot_config: "{fewshot_indices: [1]}" }, "fewshot_indices is not supported"],
    [{ unsafe_code: "true" }, "unsafe_code is true"],
    [{ dataset_path: "hellaswag" }, 'dataset_path is "hellaswag", and nothing is downloaded'],
    [{ dataset_kwargs: "{data_files: https://a/b.jsonl}" }, "nothing is downloaded"],
    [{ dataset_kwargs: "{data_files: other.jsonl}" }, '"other.jsonl" is neither in'],
    [{ dataset_kwargs: "{data_files: rows.jsonl, field: x}" }, "dataset_kwargs.field"],
    [{ test_split: "validation" }, 'test_split is "validation"', "expected one of test"],
    [{ test_split: undefined }, "test_split is missing"],
    [{ output_type: "multiple_choices" }, "output_type is", "expected one of multiple_choice"],
    [{ metric_list: "[{metric: accc}]" }, 'metric "accc"', 'did you mean "acc"?'],
    [{ metric_list: "[{metric: acc, aggregation: f1}]" }, 'aggregation is "f1"; expected mean'],
    [{ ...generates, metric_list: "[{metric: bleu}]" }, 'metric "bleu"', "exact_match"],
    [{ ...generates, metric_list: "[{metric: exact_match, ignore: 1}]" }, '"ignore":1'],
    [{ ...generates, generation_kwargs: "{do_sample: true}" }, "do_sample true"],
    [{ ...generates, generation_kwargs: "{temperature: 0.7}" }, "temperature 0.7"],
    [{ ...generates, generation_kwargs: "{num_beams: 4}" }, "num_beams 4 is not supported"],
    [{ ...generates, generation_kwargs: "{max_gen_toks: 16}" }, /allow 16 tokens .* fewer/],
    [{ ...generates, filter_list: "[{name: f, filter: [{function: reg}]}]" }, '"regex"?'],
    [
      {
        ...generates,
        filter_list: '[{name: f, filter: [{function: regex, regex_pattern: "(a"}]}]',
      },
      't.yaml (task t): filter_list[0]: regex: the regular expression "(a"',
    ],
    [{ num_fewshot: "5" }, "num_fewshot 5 asks for 5 rows", "there are 3"],
  ];
  for (const [keys, ...words] of cases) await refuse(task(keys), ...words);
});

Deno.test("evaluate: rows that a task can't be asked of are refused by their numbers", async () => {
  const row = (number: number) =>
    new RegExp(`rows\\.jsonl", row ${number} \\(line ${number}\\), .*`);
  const cases: [keys: Record<string, string>, ...words: (string | RegExp)[]][] = [
    [{ doc_to_choice: "[a, b]" }, row(3), "doc_to_target is 2, which is none of the choices"],
    [{ doc_to_choice: "choices" }, row(3), "doc_to_choice is an empty list"],
    [{ doc_to_choice: '"{{q}}"' }, row(1), 'doc_to_choice writes "What is red?"'],
    [{ doc_to_choice: "label" }, row(1), "doc_to_choice is an int; expected a list of texts"],
    [{ doc_to_choice: "['', b]" }, row(1), "choice 0 of doc_to_choice is empty"],
    [{ doc_to_text: '"{{extra}}"' }, row(2), "'extra' is missing from this row"],
    [{ doc_to_text: "extra" }, row(2), "doc_to_text is missing"],
    [{ doc_to_text: '"{{nowhere}}"' }, row(1), "'nowhere' is undefined"],
    [{ doc_to_target: "extra" }, row(1), 'doc_to_target is "x"'],
    [{ doc_to_target: "half" }, row(1), "doc_to_target is a float"],
    [{ output_type: "loglikelihood", doc_to_target: '""' }, row(1), "adds no token"],
    [{ doc_to_choice: `[a, b, ${"ab ".repeat(20)}]` }, row(1), "expected at most 16"],
  ];
  for (const [keys, ...words] of cases) await refuse(task(keys), ...words);
});

Deno.test("evaluate: files that hold no task are refused", async () => {
  await refuse("- a", "t.yaml is no mapping");
  await refuse('task: "t', /t\.yaml, line 1|2: not valid YAML/);
  await refuse("include: t.yaml", "t.yaml includes itself");
  await refuse(
    "include: other.yaml",
    /"\S+other\.yaml", which \S+t\.yaml includes, does not exist/,
  );
  await refuse("group: g", "(group g): task is no list");
  await refuse("group: g\ntask: [nothing]", 'no task, group or tag "nothing" in the YAML files');
  const groups = `group: g\ntask:\n  - {${task().replaceAll("\n", ", ")}}\n`;
  await refuse(`${groups}aggregate_metric_list: [{metric: acc, aggregation: max}]`, '"max"');
  await refuse(groups + groups.split("\n")[2], /is there twice/);
});
