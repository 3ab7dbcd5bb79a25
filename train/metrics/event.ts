/**
 * TensorBoard's events as bytes: the messages of its protocol buffers, and the records that frame them in a file.
 *
 * Fields are numbered in https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto (event.proto,
 * summary.proto, tensor.proto); records are those of https://www.tensorflow.org/tutorials/load_data/tfrecord.
 *
 * @module
 */
import { crc32c } from "./crc32c.ts";

/** What an event tells, at a time in seconds since 1970. */
export interface LoggedEvent {
  wallTime: number;
  step: number;
  what:
    /** The first event of every file. */
    | { kind: "version" }
    /** The run begins with this step, or begins again: what files before this one told of it and later ones is void. */
    | { kind: "start" }
    | { kind: "values"; scalars: Scalars; texts: Readonly<Record<string, string>> };
}

/** Numbers by tag. They are stored in float32, NaN and infinities included. */
export type Scalars = Readonly<Record<string, number>>;

/** How a field's value is encoded. */
const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;
/** Field numbers. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 };
const VALUE = { tag: 1, simpleValue: 2, tensor: 8, metadata: 9 };
const TENSOR = { dtype: 1, shape: 2, strings: 8 };
const FILE_VERSION = "brain.Event:2";
/** `SessionLog.status` START, `DataType` DT_STRING, and `DataClass` DATA_CLASS_TENSOR. */
const START = 1, STRING = 7, TENSOR_CLASS = 2;

const encoder = new TextEncoder();

/** A message of protocol buffers, field by field. */
class Message {
  readonly #bytes: number[] = [];

  get bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** A whole number of at least 0; a field of 0 is left out, as in proto3. */
  whole(field: number, value: number): this {
    if (value === 0) return this;
    this.#varint(field << 3 | VARINT);
    this.#varint(value);
    return this;
  }

  double(field: number, value: number): this {
    this.#varint(field << 3 | FIXED64);
    this.#bytes.push(...new Uint8Array(Float64Array.of(value).buffer));
    return this;
  }

  float(field: number, value: number): this {
    this.#varint(field << 3 | FIXED32);
    this.#bytes.push(...new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  /** A text, or another message. */
  nested(field: number, value: string | Message): this {
    const bytes = typeof value === "string" ? encoder.encode(value) : value.#bytes;
    this.#varint(field << 3 | BYTES);
    this.#varint(bytes.length);
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }

  /** Seven bits a byte, the lowest first. Numbers beyond 2^31 are no field for bitwise operators. */
  #varint(value: number): void {
    for (; value >= 0x80; value = Math.floor(value / 0x80)) this.#bytes.push(value % 0x80 | 0x80);
    this.#bytes.push(value);
  }
}

/** A text as TensorBoard's plugin for texts takes it, which shows it as Markdown. */
function textValue(tag: string, text: string): Message {
  const plugin = new Message().nested(1, "text");
  const metadata = new Message().nested(1, plugin).whole(4, TENSOR_CLASS);
  const tensor = new Message().whole(TENSOR.dtype, STRING).nested(TENSOR.shape, new Message())
    .nested(TENSOR.strings, text);
  return new Message().nested(VALUE.tag, tag).nested(VALUE.tensor, tensor)
    .nested(VALUE.metadata, metadata);
}

/** The message of an event. */
function eventMessage({ wallTime, step, what }: LoggedEvent): Message {
  const event = new Message().double(EVENT.wallTime, wallTime).whole(EVENT.step, step);
  if (what.kind === "version") return event.nested(EVENT.fileVersion, FILE_VERSION);
  if (what.kind === "start") return event.nested(EVENT.sessionLog, new Message().whole(1, START));
  const summary = new Message();
  for (const [tag, value] of Object.entries(what.scalars)) {
    const scalar = new Message().nested(VALUE.tag, tag).float(VALUE.simpleValue, value);
    summary.nested(1, scalar);
  }
  for (const [tag, text] of Object.entries(what.texts)) summary.nested(1, textValue(tag, text));
  return event.nested(EVENT.summary, summary);
}

/** TensorFlow's masked checksum: that of bytes which hold checksums themselves would be a constant. */
function maskedChecksum(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return ((crc >>> 15 | crc << 17) + 0xa282ead8) >>> 0;
}

/** Bytes of a record before its data, and after it. */
const HEAD_BYTES = 12, TAIL_BYTES = 4;

/** An event as a record of a file: u64 length, its checksum, the event, its checksum; little-endian. */
export function eventRecord(event: LoggedEvent): Uint8Array<ArrayBuffer> {
  const data = eventMessage(event).bytes;
  const record = new Uint8Array(HEAD_BYTES + data.length + TAIL_BYTES);
  const view = new DataView(record.buffer);
  view.setUint32(0, data.length, true); // The upper half of the length is 0.
  view.setUint32(8, maskedChecksum(record.subarray(0, 8)), true);
  record.set(data, HEAD_BYTES);
  view.setUint32(HEAD_BYTES + data.length, maskedChecksum(data), true);
  return record;
}

/** A record of a file. */
export interface FoundRecord {
  /** Where it ends in the bytes. */
  end: number;
  step: number;
  /** Whether it holds values, and not only what the file is. */
  values: boolean;
}

/** The records of a file's bytes, up to the first that is cut short or damaged. */
export function* eventRecords(bytes: Uint8Array): Generator<FoundRecord> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + HEAD_BYTES + TAIL_BYTES <= bytes.length;) {
    const length = Number(view.getBigUint64(at, true)), begin = at + HEAD_BYTES;
    const end = begin + length + TAIL_BYTES;
    if (view.getUint32(at + 8, true) !== maskedChecksum(bytes.subarray(at, at + 8))) return;
    if (end > bytes.length) return;
    const data = bytes.subarray(begin, begin + length);
    if (view.getUint32(begin + length, true) !== maskedChecksum(data)) return;
    yield { end, ...fieldsOf(data) };
    at = end;
  }
}

/** The step of an event, and whether it holds values. */
function fieldsOf(data: Uint8Array): Pick<FoundRecord, "step" | "values"> {
  let at = 0, step = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1;; factor *= 0x80) {
      const byte = data[at++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (at < data.length) {
    const key = varint(), field = key >>> 3, wire = key & 7;
    if (field === EVENT.step && wire === VARINT) step = varint();
    else if (field === EVENT.summary) return { step, values: true };
    else if (wire === VARINT) varint();
    else {
      const bytes = wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : varint();
      at += bytes;
    }
  }
  return { step, values: false };
}
