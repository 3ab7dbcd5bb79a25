#!/usr/bin/env bash
# hyparquet 1.33.0 believes a Parquet file's sizes. A negative number of children lets markGeoColumns run without end while
# metadata is read ("geoparquet: false" leaves it out); a run of levels that claims 2^28 values is written out in full, which
# takes gigabytes.
# Its default text decoder also puts U+FFFD in place of bytes that are no UTF-8, and takes a byte order mark off every text.
# So files are checked page by page before they are read: model/text/data/parquet_check.ts.
#
# Seen with hyparquet 1.33.0 in Deno 2.9.6.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/try.mjs" <<'JAVASCRIPT'
import assert from "node:assert/strict";
import { markGeoColumns } from "npm:hyparquet@1.33.0/src/geoparquet.js";
import { readRleBitPackedHybrid } from "npm:hyparquet@1.33.0/src/encoding.js";
import { DEFAULT_PARSERS } from "npm:hyparquet@1.33.0/src/convert.js";

if (Deno.args[0] === "geo") {
  markGeoColumns([{ name: "schema", num_children: 1 }, { name: "a", num_children: -1 }], []);
  console.log("came to an end");
  Deno.exit();
}
// One run: the header 2 · 2^24 as a variable-length number, then the value.
const bytes = Uint8Array.of(0x80, 0x80, 0x80, 0x10, 1), levels = new Array(5);
readRleBitPackedHybrid({ view: new DataView(bytes.buffer), offset: 0 }, 1, levels, bytes.length);
console.log(`5 levels of a page of 5 bytes: ${levels.length}`);
assert.equal(levels.length, 2 ** 24);

const decoded = DEFAULT_PARSERS.stringFromBytes(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61, 0xe9));
console.log(`a byte order mark, "a" and a byte that is no UTF-8: ${JSON.stringify(decoded)}`);
assert.equal(decoded, "a\ufffd");
JAVASCRIPT
"${DENO:-deno}" run --quiet --no-lock --allow-read "$work/try.mjs"
if timeout 10 "${DENO:-deno}" run --quiet --no-lock --allow-read "$work/try.mjs" geo; then
  echo "markGeoColumns came to an end: no longer so"
  exit 1
fi
echo "still so"
