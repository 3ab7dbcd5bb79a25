/**
 * One flat contract for everything that runs on the GPU: a name, a key, bindings, uniforms and a
 * WGSL body. The header (bindings, uniform struct, load and store functions) is generated.
 *
 * In WGSL a program sees its uniforms as `u.name` and, for every binding `x`, either
 *  - vector access, four elements at a time: `load_x(i) -> vec4<f32>`, `store_x(i, vec4<f32>)`,
 *    whatever the dtype (f16 is stored as packed halves and computed in f32); or
 *  - scalar access (`scalar: true`): the array `x` itself (f32 or u32); or
 *  - access by words (`words: 1`, 2 or 4): the array `x` itself, as `u32`, `vec2<u32>` or `vec4<u32>`, whatever the dtype.
 *
 * @module
 */
import { UserError } from "../errors.ts";
import type { Dtype } from "./tensor.ts";

/** A storage buffer a program reads or writes. */
export interface Binding {
  name: string;
  dtype: Dtype;
  access: "read" | "write";
  /** Elements one by one instead of four at a time. */
  scalar?: boolean;
  /** So many words of four bytes at a time, as they are. */
  words?: 1 | 2 | 4;
}

/** What a program may use beyond WGSL's core, where the device has it; see {@linkcode Dialect}. */
export type Extension = "f16" | "subgroups" | "subgroup_matrix";

/** How a WebGPU implementation wants extensions to be announced. */
export interface Dialect {
  /** Lines that a program which uses the extension begins with. */
  enable: Readonly<Partial<Record<Extension, string>>>;
}

/** Bindings of one dtype that are read four elements at a time. */
export function reads(dtype: Dtype, ...names: string[]): Binding[] {
  return names.map((name) => ({ name, dtype, access: "read" }));
}

/** Bindings of one dtype that are written (and may be read) four elements at a time. */
export function writes(dtype: Dtype, ...names: string[]): Binding[] {
  return names.map((name) => ({ name, dtype, access: "write" }));
}

/** Bindings of one dtype that are read one element at a time. */
export function readsScalars(dtype: Dtype, ...names: string[]): Binding[] {
  return names.map((name) => ({ name, dtype, access: "read", scalar: true }));
}

/** Bindings of one dtype that are written (and may be read) one element at a time. */
export function writesScalars(dtype: Dtype, ...names: string[]): Binding[] {
  return names.map((name) => ({ name, dtype, access: "write", scalar: true }));
}

/** What a kernel author writes. */
export interface ProgramSource {
  bindings: Binding[];
  /** Uniform fields in order; sizes that change from run to run belong here, not in the source. */
  uniforms: Record<string, "u32" | "f32">;
  /** Extensions that the body uses. */
  extensions?: readonly Extension[];
  /** WGSL with one entry point `main`. */
  body: string;
}

/** A program ready to be launched on any device. */
export interface Program extends ProgramSource {
  readonly id: number;
  readonly name: string;
  /** The name and everything its source depends on. */
  readonly key: string;
  readonly uniformNames: readonly string[];
}

let nextId = 0;

/** Programs by the first entry of their record, and so on; looked up at every launch, so no key is put together. */
class Variants {
  readonly next = new Map<string | number | boolean, Variants>();
  program?: Program;
}

/** What distinguishes the programs of a family: dtypes, tile sizes, switches. */
export type Variant<Field extends string = string> = Readonly<
  Record<Field, string | number | boolean>
>;

/** A family of programs; see {@linkcode programFamily}. */
export type ProgramFamily<V extends Variant> = (variant: V) => Program;

const families = new Map<string, ProgramFamily<Variant>>();

/** All families of the modules that were imported, by name: a program can be built without a launch of it. */
export function programFamilies(): ReadonlyMap<string, ProgramFamily<Variant>> {
  return families;
}

/**
 * A family of programs that differ in the entries of one flat record: `build` runs once per combination of their
 * values, and the entries are the program's key. Entries are told apart by their names, whatever their order; keys
 * have the order of the first record.
 *
 * @throws {Error} where another family has the name; the family throws where a record has other entries than the first.
 */
export function programFamily<V extends Variant<Extract<keyof V, string>>>(
  name: string,
  build: (variant: V) => ProgramSource,
): ProgramFamily<V> {
  if (families.has(name)) throw new Error(`two families of programs are called "${name}"`);
  const variants = new Variants();
  let fields: (Extract<keyof V, string>)[] | undefined;
  const family = (variant: V) => {
    fields ??= Object.keys(variant) as Extract<keyof V, string>[];
    let entry = variants;
    for (const field of fields) {
      const value = variant[field];
      let next = entry.next.get(value);
      if (next === undefined) entry.next.set(value, next = new Variants());
      entry = next;
    }
    if (entry.program === undefined) {
      const known = fields;
      if (Object.keys(variant).some((field) => !known.some((name) => name === field))) {
        throw new Error(
          `${name}: programs with ${Object.keys(variant)} beside those with ${known}`,
        );
      }
      entry.program = makeProgram(keyOf(name, fields, variant), build(variant));
    }
    return entry.program;
  };
  families.set(name, family as ProgramFamily<Variant>);
  return family;
}

function keyOf(name: string, fields: readonly string[], variant: Variant): string {
  const entries = fields.map((field) => `${field}=${variant[field]}`);
  return entries.length === 0 ? name : `${name}(${entries.join(",")})`;
}

function makeProgram(key: string, source: ProgramSource): Program {
  const [name] = key.split("(");
  return { ...source, id: nextId++, name, key, uniformNames: Object.keys(source.uniforms) };
}

function elementType({ dtype, scalar, words }: Binding): string {
  if (words !== undefined) return { 1: "u32", 2: "vec2<u32>", 4: "vec4<u32>" }[words];
  if (scalar) return dtype === "f16" ? "u32" : dtype;
  return { f32: "vec4<f32>", f16: "vec2<u32>", u32: "vec4<u32>" }[dtype];
}

function accessors(binding: Binding): string {
  const { name, dtype, access, scalar, words } = binding;
  if (scalar || words !== undefined || dtype === "u32") return "";
  const load = dtype === "f32"
    ? `${name}[i]`
    : `vec4<f32>(unpack2x16float(${name}[i].x), unpack2x16float(${name}[i].y))`;
  const store = dtype === "f32" ? "v" : "vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw))";
  return `fn load_${name}(i: u32) -> vec4<f32> { return ${load}; }\n` +
    (access === "read"
      ? ""
      : `fn store_${name}(i: u32, v: vec4<f32>) { ${name}[i] = ${store}; }\n`);
}

/** The complete WGSL of a program in an implementation's dialect. */
export function wgsl(program: ProgramSource, { enable }: Dialect): string {
  const fields = Object.entries(program.uniforms);
  let text = (program.extensions ?? []).map((name) => enable[name] ?? "").join("");
  if (fields.length > 0) {
    text += `struct Uniforms {\n${fields.map(([n, t]) => `  ${n}: ${t},\n`).join("")}}\n` +
      "@group(0) @binding(0) var<uniform> u: Uniforms;\n";
  }
  program.bindings.forEach((b, i) => {
    const access = b.access === "read" ? "read" : "read_write";
    text += `@group(0) @binding(${i + 1}) var<storage, ${access}> ${b.name}: ` +
      `array<${elementType(b)}>;\n`;
  });
  return text + program.bindings.map(accessors).join("") + program.body;
}

/** A WGSL error as the user sees it: the program's name and the offending lines. */
export function wgslError(
  program: Program,
  dialect: Dialect,
  messages: readonly { lineNum: number; linePos: number; message: string }[],
  fallback: string,
): UserError {
  const lines = wgsl(program, dialect).split("\n");
  const parts = messages.filter((m) => m.lineNum > 0).map((m) => {
    const from = Math.max(0, m.lineNum - 2), to = Math.min(lines.length, m.lineNum + 1);
    const excerpt = lines.slice(from, to).map((line, i) =>
      `${from + i + 1 === m.lineNum ? ">" : " "} ${String(from + i + 1).padStart(4)} | ${line}`
    );
    return `${m.message}\n${excerpt.join("\n")}`;
  });
  const detail = parts.length > 0 ? parts.join("\n") : fallback;
  return new UserError(`WGSL error in program "${program.key}": ${detail}`);
}
