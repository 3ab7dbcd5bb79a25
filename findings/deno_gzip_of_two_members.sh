#!/usr/bin/env bash
# Deno's DecompressionStream("gzip") refuses a file of two members, as `cat a.gz b.gz` and parallel compressors make it.
# node:zlib in the same Deno takes it, and bounds what is unpacked: it is what data files are read with.
#
# Seen with Deno 2.9.6.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/try.ts" <<'TYPESCRIPT'
import assert from "node:assert/strict";
import { gunzipSync, gzipSync } from "node:zlib";

const text = new TextDecoder();
const first = gzipSync("hello "), second = gzipSync("world");
const members = Uint8Array.from([...first, ...second]);

async function stream(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return await new Response(unpacked).text();
}
const outcome = async (run: () => Promise<string>) => {
  try {
    return await run();
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
};
const zlib = (bytes: Uint8Array) => () => Promise.resolve(text.decode(gunzipSync(bytes)));

const seen = {
  "DecompressionStream, two members": await outcome(() => stream(members)),
  "node:zlib, two members": await outcome(zlib(members)),
};
for (const [name, result] of Object.entries(seen)) console.log(`${name}: ${result}`);
assert.match(seen["DecompressionStream, two members"], /^TypeError/);
assert.equal(seen["node:zlib, two members"], "hello world");
TYPESCRIPT
"${DENO:-deno}" run --quiet --no-config "$work/try.ts"
echo "still so"
