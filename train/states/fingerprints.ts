/**
 * Fingerprints of what a run is made from: whether a model, a tokenizer, an adapter or samples are those that a run began
 * with follows from their contents, wherever they lie and whatever they are called.
 *
 * @module
 */
import { join } from "node:path";
import type { Adapter } from "../../model/adapter/adapter_folder.ts";
import { adapterConfigJson } from "../../model/adapter/adapter_config.ts";
import type { ModelSource, ModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { type ModelConfig, weightShapes } from "../../model/families/config.ts";
import { fileError, namesIn } from "../../model/files/whole_file.ts";
import type { Plane, WeightSource } from "../../model/formats/weights.ts";
import {
  eachSample,
  type SampleList,
  type SamplesFingerprint,
  SampleSubset,
} from "../../model/text/data/sample_list.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import { checksum, samplesChecksum, startChecksum } from "./checksums.ts";

/** Bytes of one sample of a tensor, and how many are taken. */
const SAMPLE_BYTES = 4096, SAMPLES = 8;
/** Bytes of a tensor read at a time where all are. */
const CHUNK_BYTES = 1 << 23;
/** Tensors that are read at once: files of a network answer late. */
const AT_ONCE = 16;

/** A file of weights, for people: that it is another one says nothing about what is in it. */
export interface WeightFile {
  name: string;
  bytes: number;
  /** When it was written. */
  modified: string;
}

/** What a model's files hold. */
export interface WeightsFingerprint {
  /** By name: dtype, shape and the checksum of sampled bytes. */
  tensors: Record<string, string>;
  files: WeightFile[];
  /** The checksum of all bytes, where somebody asked for it. */
  whole?: string;
}

/** What a run is made from. */
export interface Fingerprints {
  model: {
    config: ModelConfig;
    /** `null` for random weights. */
    weights: WeightsFingerprint | null;
  };
  /** The checksum of the vocabulary. */
  tokenizer: string;
  /** The checksum of the adapter that the run began from, or `null`. */
  adapter: string | null;
  data: SamplesFingerprint;
  /** Held-out samples in a file of their own, or `null`. */
  evalData: SamplesFingerprint | null;
}

/** The bytes that a tensor is read from. */
function planesOf(weights: WeightSource, name: string): readonly Plane[] {
  const quantized = weights.quantized(name);
  if (quantized !== undefined) return quantized.planes;
  const { bytes } = weights.info(name);
  return [{ bytes, read: (begin, target) => weights.read(name, begin, target) }];
}

/** Where the samples of so many bytes begin: the first and the last, and others at equal distances. */
function sampleStarts(bytes: number): number[] {
  if (bytes <= SAMPLES * SAMPLE_BYTES) return [0];
  const step = (bytes - SAMPLE_BYTES) / (SAMPLES - 1);
  return Array.from({ length: SAMPLES }, (_, i) => Math.floor(i * step));
}

/** The fingerprint of one tensor. */
async function sampleTensor(weights: WeightSource, name: string): Promise<string> {
  const { dtype, shape, stored = dtype } = weights.info(name), hash = startChecksum();
  for (const { bytes, read } of planesOf(weights, name)) {
    const starts = sampleStarts(bytes);
    const sample = new Uint8Array(starts.length === 1 ? bytes : SAMPLE_BYTES);
    for (const start of starts) {
      await read(start, sample);
      hash.update(sample);
    }
  }
  return `${stored} [${shape}] ${hash.digest("hex")}`;
}

/** The checksum of all bytes of all weights. */
async function wholeChecksum(weights: WeightSource, names: readonly string[]): Promise<string> {
  const hash = startChecksum(), buffer = new Uint8Array(CHUNK_BYTES);
  for (const name of names) {
    hash.update(name);
    for (const { bytes, read } of planesOf(weights, name)) {
      for (let at = 0; at < bytes; at += CHUNK_BYTES) {
        const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, bytes - at));
        await read(at, chunk);
        hash.update(chunk);
      }
    }
  }
  return hash.digest("hex");
}

/** The files that a model's weights lie in. */
function weightFiles({ folder, tokenizerPath }: ModelSource): WeightFile[] {
  // A model in a file of its own brings its tokenizer in it.
  const paths = folder === undefined
    ? tokenizerPath === undefined ? [] : [tokenizerPath]
    : namesIn(folder).filter((name) => /\.(safetensors|bin|pth)$/.test(name))
      .map((name) => join(folder, name));
  return paths.map((path) => {
    try {
      const { size, mtime } = Deno.statSync(path);
      const name = path.split(/[/\\]/).at(-1) ?? path;
      return { name, bytes: size, modified: mtime?.toISOString() ?? "unknown" };
    } catch (error) {
      throw fileError(path, "read", error);
    }
  });
}

/** The fingerprint of a model's weights. @param all Whether to read all bytes. */
async function weightsFingerprint(
  source: ModelSource & { weights: WeightSource },
  all: boolean,
): Promise<WeightsFingerprint> {
  const { weights } = source, names = [...weightShapes(weights.config).keys()];
  const tensors: Record<string, string> = {};
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const some = names.slice(at, at + AT_ONCE);
    const sums = await Promise.all(some.map((name) => sampleTensor(weights, name)));
    some.forEach((name, i) => tensors[name] = sums[i]);
  }
  const whole = all ? { whole: await wholeChecksum(weights, names) } : {};
  return { tensors, files: weightFiles(source), ...whole };
}

/** The checksum of a tokenizer's vocabulary and of what it puts around texts. */
function tokenizerChecksum(tokenizer: Tokenizer): string {
  const { vocab_size, prefix_ids, suffix_ids, special_tokens } = tokenizer;
  const tokens = Array.from({ length: vocab_size }, (_, id) => tokenizer.token(id) ?? null);
  return checksum(JSON.stringify([tokens, prefix_ids, suffix_ids, [...special_tokens]]));
}

/** The checksum of an adapter's configuration and tensors. */
function adapterChecksum({ config, tensors }: Adapter): string {
  const hash = startChecksum().update(JSON.stringify(adapterConfigJson(config)));
  for (const [name, { shape, data }] of tensors) {
    hash.update(`${name} [${shape}]`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest("hex");
}

/** Of samples that are not all tokenised, so many first ones are. */
const FIRST_SAMPLES = 32;

function samplesFingerprint(samples: SampleList): SamplesFingerprint {
  if (samples.contents === undefined) {
    let count = 0, tokens = 0;
    for (const { ids } of eachSample(samples)) {
      count++;
      tokens += ids.length;
    }
    return { samples: count, tokens, sha256: samplesChecksum(eachSample(samples)) };
  }
  // Template, format and maximum length show in the first samples.
  const first = new SampleSubset(samples, Array.from({ length: FIRST_SAMPLES }, (_, i) => i));
  const sha256 = checksum(samples.contents.sha256 + samplesChecksum(eachSample(first)));
  return { ...samples.contents, sha256 };
}

/** What a run learns from: a file, or several with their weights. */
export interface DataSource {
  samples: SampleList;
  weight?: number;
}

/** The fingerprint of all files of a run. */
function dataFingerprint(sources: readonly DataSource[]): SamplesFingerprint {
  const prints = sources.map(({ samples }) => samplesFingerprint(samples));
  if (prints.length === 1) return prints[0];
  const sum = (name: "samples" | "tokens" | "bytes") =>
    prints.reduce((sum, print) => sum + (print[name] ?? 0), 0);
  const parts = prints.map(({ sha256 }, i) => `${sha256} ${sources[i].weight ?? ""}`);
  return {
    samples: sum("samples"),
    tokens: sum("tokens"),
    bytes: sum("bytes"),
    sha256: checksum(parts.join("\n")),
  };
}

/**
 * The fingerprints of a run's inputs.
 *
 * @param allBytes Whether all bytes of the weights are read, or samples of each tensor.
 * @throws {UserError} where a file can't be read.
 */
export async function fingerprints(
  { source, tokenizer, adapter, data, evalData, allBytes }:
    & Pick<ModelWithTokenizer, "source" | "tokenizer">
    & {
      adapter?: Adapter;
      data: readonly DataSource[];
      evalData?: SampleList;
      allBytes: boolean;
    },
): Promise<Fingerprints> {
  const { weights } = source;
  return {
    model: {
      config: source.config,
      weights: weights === undefined
        ? null
        : await weightsFingerprint({ ...source, weights }, allBytes),
    },
    tokenizer: tokenizerChecksum(tokenizer),
    adapter: adapter === undefined ? null : adapterChecksum(adapter),
    data: dataFingerprint(data),
    evalData: evalData === undefined ? null : samplesFingerprint(evalData),
  };
}

/**
 * Fingerprints of a run that goes on: where not all bytes of the weights were read again, and what was read is the same, the
 * checksum of all is still that which the run began with.
 */
export function keepWhole(is: Fingerprints, was: Fingerprints): Fingerprints {
  const [now, before] = [is.model.weights, was.model.weights];
  if (now === null || before === null || now.whole !== undefined) return is;
  const same = JSON.stringify(now.tensors) === JSON.stringify(before.tensors);
  if (!same || before.whole === undefined) return is;
  return { ...is, model: { ...is.model, weights: { ...now, whole: before.whole } } };
}
