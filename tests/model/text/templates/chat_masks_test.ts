import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { parseSamples } from "../../../../model/text/data/load.ts";
import { SampleEncoder, type TrainOn } from "../../../../model/text/sample_encoder.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";
import { fixturePath, readFixture } from "../../../fixtures.ts";

const tokenizerPath = fixturePath("chat_masks");
const tokenizer = await loadTokenizer(tokenizerPath);
const BOS = tokenizer.bos_id ?? -1;
const { conversations, cases } = readFixture("chat_masks/cases.json");

/** What is learnt of each row. */
async function encode(rows: readonly unknown[], template: string, train_on: TrainOn) {
  const encoder = new SampleEncoder(tokenizer, { tokenizerPath, template, train_on });
  const { samples } = parseSamples(JSON.stringify(rows), "rows.json");
  await encoder.openFor(samples[0]);
  return samples.map((sample) => encoder.encode(sample, 1e6));
}

for (const [name, { template, results }] of Object.entries(cases)) {
  Deno.test(`chat masks: ids and targets are those of transformers, ${name}`, async () => {
    using folder = new TemporaryFolder();
    const file = folder.file("template.jinja", template);
    let blank = 0;
    for (const [kind, expected] of Object.entries(results)) {
      const rows = conversations[kind];
      const encoded = await encode(rows, file, "assistant");
      const lasts = await encode(rows, file, "last");
      assert.ok(rows.length === 20 && expected.length === 20);
      for (const [i, [length, checksum, targets]] of expected.entries()) {
        const { ids } = encoded[i], what = `${kind} ${i}: ${JSON.stringify(rows[i])}`;
        const crc = crc32(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
        assert.deepEqual([ids.length, crc], [length, checksum], what);
        assert.deepEqual(encoded[i].targets, targets, what);
        assert.deepEqual(lasts[i].ids, ids);
        const last = lasts[i].targets, { messages } = rows[i];
        // What was thought before a blank message is something to learn.
        const { content, reasoning_content } = messages[messages.length - 1];
        const isBlank = content.trim() === "" && reasoning_content === undefined;
        assert.deepEqual(last, isBlank ? [] : targets.slice(-1), what);
        blank += isBlank ? 1 : 0;
        assert.equal(ids.indexOf(BOS), ids.lastIndexOf(BOS), "BOS is doubled");
      }
    }
    assert.ok(blank > 0, "no row ends with a blank answer");
  });
}
