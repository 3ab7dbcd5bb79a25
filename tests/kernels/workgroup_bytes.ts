/** What a program's source takes of workgroup memory, which WebGPU limits and wgpu does not check. */

/** Bytes of WGSL's scalars. */
const SCALARS: Readonly<Record<string, number>> = { f32: 4, u32: 4, i32: 4, f16: 2 };

/** Bytes of a type of numbers, vectors, atomics and arrays, by the source's aliases and structures. */
function bytesOf(type: string, aliases: ReadonlyMap<string, string[]>): number {
  const members = aliases.get(type);
  if (members !== undefined) {
    return members.reduce((sum, member) => sum + bytesOf(member, aliases), 0);
  }
  if (type in SCALARS) return SCALARS[type];
  const generic = /^(\w+)<(.*)>$/.exec(type);
  if (generic === null) throw new Error(`${type}: no type that is known here`);
  const [, name, inner] = generic;
  if (name === "atomic") return bytesOf(inner, aliases);
  // A vector of three has the place of four.
  if (/^vec[234]$/.test(name)) return (name === "vec2" ? 2 : 4) * bytesOf(inner, aliases);
  const array = /^(.*), ?(\d+)u?$/.exec(inner);
  if (name !== "array" || array === null) throw new Error(`${type}: no type that is known here`);
  return Number(array[2]) * bytesOf(array[1], aliases);
}

/** Bytes of all variables in workgroup memory, each rounded up to 16 as Dawn counts them. */
export function workgroupBytes(wgsl: string): number {
  const aliases = new Map<string, string[]>();
  for (const [, name, type] of wgsl.matchAll(/^alias (\w+) = ([^;]+);/gm)) {
    aliases.set(name, [type]);
  }
  // Of members that need no padding.
  for (const [, name, members] of wgsl.matchAll(/^struct (\w+) \{([^}]*)\}/gm)) {
    aliases.set(name, [...members.matchAll(/: ([\w<>]+)/g)].map(([, type]) => type));
  }
  return [...wgsl.matchAll(/^ *var<workgroup> \w+: ([^;]+);/gm)]
    .map(([, type]) => Math.ceil(bytesOf(type, aliases) / 16) * 16)
    .reduce((sum, bytes) => sum + bytes, 0);
}
