/**
 * A data file as token ids, the same for training and scoring.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { EncodingOptions } from "../sample_encoder.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { DataFile } from "./file.ts";
import type { Judgement } from "./formats/preference.ts";
import { counted, GroupEncoder, type LongSamples } from "./group_encoder.ts";
import { GroupReader, groupWord, openData, type PartGroup } from "./load.ts";
import type { Row, Rows } from "./row.ts";
import type { SampleList } from "./sample_list.ts";
import { RowsInFile, SpooledRows } from "./stored_rows.ts";
import { StreamedSamples } from "./streamed.ts";
import { TokenStore } from "./token_store.ts";

/** What is read of a data file, and how. */
export interface DatasetOptions extends EncodingOptions {
  /** A data file of any format that is read, or `builtin`. */
  data: string;
  /** What it is called in what is said. */
  called?: string;
  /** Only the first so many rows of it. */
  samples?: number;
  /** The name of the rows' format; without it, or `auto`, their fields tell it. */
  data_format?: string;
  /** What is made of rows of preferences; without it, rows are no preferences. */
  judgement?: Judgement;
  /** Longer samples are cut at so many tokens, or what `long_samples` says. */
  max_length: number;
  long_samples?: LongSamples;
  /** The model's own limit on tokens. */
  context: number;
  /**
   * Whether samples of large files are tokenised only when they are asked for, so that their order counts rows, and
   * tokens that are very many go to a temporary file.
   */
  streams?: boolean;
  /** Told what was read, a line at a time. */
  say: (line: string) => void;
  /** Called between samples; what it throws ends the reading. */
  check?: () => void;
}

/** Files with more bytes are large, as text or packed: to tokenise all of one takes longer than a quarter of a minute. */
const LARGE_BYTES = 64 << 20, LARGE_PACKED_BYTES = 16 << 20;
/** Rows of large files are tokenised at once up to so many bytes: it takes a second. */
const AT_ONCE_BYTES = 4 << 20;

/** A row with the samples that it holds. */
interface ReadRow {
  row: Row;
  groups: readonly PartGroup[];
}

/** Reads a data file. */
class DatasetReader {
  readonly #tokenizer: Tokenizer;
  readonly #options: DatasetOptions;
  readonly #maxLength: number;
  readonly #reader: GroupReader;
  readonly #encoder: GroupEncoder;

  constructor(tokenizer: Tokenizer, options: DatasetOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#maxLength = Math.min(options.max_length, options.context);
    this.#reader = this.#newReader();
    this.#encoder = this.#newEncoder();
  }

  /** All samples, tokenised. @param known Rows that were read before. */
  async all(rows: Rows, known: readonly ReadRow[] = []): Promise<SampleList> {
    const { check, streams } = this.#options, store = new TokenStore({ spills: streams });
    let tokens = 0;
    for (let some: readonly ReadRow[] | undefined = known; some; some = await this.#next(rows)) {
      for (const group of some.flatMap(({ groups }) => groups)) {
        check?.();
        for (const encoded of await this.#encoder.encode(group)) {
          store.add(encoded);
          tokens += encoded.reduce((sum, { ids }) => sum + ids.length, 0);
        }
      }
    }
    this.#tell(rows, store.length, `${tokens} tokens`);
    return store;
  }

  /** All samples of a large file: those of a few rows tokenised, those of many as they are asked for. */
  async fewOrStreamed(rows: Rows): Promise<SampleList> {
    const known: ReadRow[] = [];
    for (let bytes = 0; bytes <= AT_ONCE_BYTES;) {
      const some = await this.#next(rows);
      if (some === undefined) return await this.all(rows, known);
      for (const read of some) {
        known.push(read);
        bytes += read.row.size;
      }
    }
    const { data } = this.#options;
    const stored = rows.locate === undefined
      ? new SpooledRows(data)
      : new RowsInFile(await DataFile.open(data));
    try {
      return await this.#streamed(rows, known, stored);
    } catch (error) {
      stored[Symbol.dispose]();
      throw error;
    }
  }

  async #streamed(
    rows: Rows,
    known: readonly ReadRow[],
    stored: RowsInFile | SpooledRows,
  ): Promise<SampleList> {
    const { check } = this.#options;
    for (const { row } of known) stored.add(row);
    let checked = stored.length;
    if (stored instanceof RowsInFile) {
      const tell = (begin: number, end: number) => stored.addPlace(begin, end);
      while (await rows.locate?.(tell)) check?.();
    } else {
      for (let some = await this.#next(rows); some; some = await this.#next(rows)) {
        check?.();
        for (const { row } of some) stored.add(row);
      }
      checked = stored.length;
    }
    const { length } = stored, megabytes = (stored.bytes / 1e6).toFixed(1);
    this.#tell(rows, length, `${megabytes} MB`, [
      "Tokenised as the run comes to them",
      ...(checked === length
        ? []
        : [`Of the rows, ${checked} were looked at; the others are while the run goes on`]),
    ]);
    const reader = this.#newReader(), encoder = this.#newEncoder();
    await encoder.open();
    // The first samples may have one answer each.
    const contents = stored.fingerprint(this.#options.train_on ?? "last");
    return new StreamedSamples(stored, {
      check: (row) => void reader.read(row),
      encode: (row) => reader.read(row).flatMap((group) => encoder.encodeNow(group))[0],
    }, { checked, mostTokens: this.#maxLength, contents });
  }

  /** The next rows that hold something to learn; undefined where there are no more. */
  async #next(rows: Rows): Promise<ReadRow[] | undefined> {
    const some = await rows.next();
    return some?.map((row) => ({ row, groups: this.#reader.read(row) }))
      .filter(({ groups }) => groups.length > 0);
  }

  /** Says what was read. @throws {UserError} where nothing is left of it. */
  #tell(rows: Rows, groups: number, size: string, more: readonly string[] = []): void {
    const { data, called = "Data", judgement, say } = this.#options, word = groupWord(judgement);
    const isPair = judgement === "pairs", notes = this.#reader.notes(rows);
    const cut = this.#encoder.notes(word, isPair ? "an answer" : "the output");
    say(`${called}: ${data}, ${counted(groups, word)}, ${size}`);
    for (const note of [...more, ...notes, ...cut]) say(`  ${note}`);
    if (groups > 0) return;
    const fault = this.#encoder.leftOutLong
      ? `no ${word} has any of its ${
        isPair ? "answers" : "output"
      } within max_length ${this.#maxLength}`
      : `nothing is left to learn (${[...notes, ...cut].at(-1)})`;
    throw new UserError(`data "${data}": ${fault}`);
  }

  #newReader(): GroupReader {
    const { data, data_format, judgement } = this.#options;
    return new GroupReader(data, { data_format, judgement });
  }

  #newEncoder(): GroupEncoder {
    const { long_samples = "cut" } = this.#options, maxLength = this.#maxLength;
    return new GroupEncoder(this.#tokenizer, { ...this.#options, maxLength, long_samples });
  }
}

/**
 * Reads and tokenises samples, without those that have no target within the maximum length.
 *
 * @returns The samples. Where they are streamed, or very many, they keep a file open until they are disposed.
 * @throws {UserError} where the file is wrong or nothing is left.
 */
export async function loadDataset(
  tokenizer: Tokenizer,
  options: DatasetOptions,
): Promise<SampleList> {
  const { data, samples: limit, judgement, streams = false, long_samples } = options;
  const reader = new DatasetReader(tokenizer, options);
  using opened = await openData(data, { limit, judgement });
  const { rows, file } = opened;
  const most = file?.isPacked || file?.isParquet ? LARGE_PACKED_BYTES : LARGE_BYTES;
  // How many pieces texts are split into only their tokens tell.
  const isPlain = long_samples !== "split" && judgement === undefined;
  const isLarge = streams && isPlain && file !== undefined && file.size > most;
  return isLarge ? await reader.fewOrStreamed(rows) : await reader.all(rows);
}
