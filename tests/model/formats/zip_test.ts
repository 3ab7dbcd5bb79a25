import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { FileReader } from "../../../model/files/file_reader.ts";
import { ZipArchive } from "../../../model/formats/zip.ts";
import { ascii, type EntryToWrite, little, zipFile } from "./pth_writer.ts";

let folder = "", files = 0;
Deno.test.beforeAll(() => {
  folder = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** Writes an archive and opens it for `use`. */
function withArchive<T>(bytes: Uint8Array, use: (zip: ZipArchive, file: FileReader) => T): T {
  const path = join(folder, `archive${files++}.pth`);
  Deno.writeFileSync(path, bytes);
  const file = new FileReader(path);
  try {
    return use(new ZipArchive(file), file);
  } finally {
    file.close();
  }
}

function refused(
  bytes: Uint8Array,
  problem: RegExp,
  use: (zip: ZipArchive) => void = () => {},
): void {
  assert.throws(() => withArchive(bytes, use), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, /archive\d+\.pth: /);
    assert.match(error.message.replace(/^.*?archive\d+\.pth: /, ""), problem);
    return true;
  });
}

const ONE: EntryToWrite = { name: "a/one", content: ascii("first") };
const TWO: EntryToWrite = { name: "a/twö", content: Uint8Array.of(0, 255, 80, 75, 5, 6) };

/** An archive of one entry that lies. */
const lying = (lie: Partial<EntryToWrite>) => zipFile([TWO, { ...ONE, ...lie }]);

/** `bytes` with some of them replaced, counted from the end where `at` is negative. */
function patched(bytes: Uint8Array, at: number, by: Iterable<number>): Uint8Array {
  const copy = bytes.slice();
  copy.set([...by], at < 0 ? bytes.length + at : at);
  return copy;
}

Deno.test("entries are found with and without zip64 records, and before a comment", () => {
  const wide = [ONE, TWO].map((entry) => ({ ...entry, zip64: true }));
  const archives = [
    zipFile([ONE, TWO]),
    zipFile([ONE, TWO], { zip64: true }),
    zipFile(wide, { zip64: true, comment: "a comment PK\x05\x06 of forty bytes or so" }),
    zipFile(wide, { comment: "PK".repeat(32767) }),
  ];
  for (const bytes of archives) {
    withArchive(bytes, (zip, file) => {
      assert.deepEqual([...zip.entries.keys()], ["a/one", "a/twö"]);
      for (const { name, content } of [ONE, TWO]) {
        const entry = zip.entries.get(name as string)!;
        assert.deepEqual([...zip.content(entry, 6)], [...content]);
        const position = zip.position(entry), read = new Uint8Array(content.length);
        assert.equal(position % 64, 0);
        file.readSync(position, read);
        assert.deepEqual([...read], [...content]);
      }
    });
  }
  withArchive(zipFile([]), (zip) => assert.equal(zip.entries.size, 0));
});

Deno.test("refuses what is no zip archive, or not all of one", () => {
  const problem = /^is no whole zip archive, which torch\.save writes$/;
  refused(new Uint8Array(100_000), problem);
  const bytes = zipFile([ONE, TWO]),
    truncated = /^is truncated: it begins as a zip archive, but has no/;
  refused(bytes.subarray(0, bytes.length - 1), truncated);
  refused(new Uint8Array([...bytes, 0]), truncated);
  refused(patched(bytes, -18, [1]), /^is one part of a zip archive of several/);
});

Deno.test("refuses entries that are compressed or encrypted, by name", () => {
  refused(lying({ method: 8 }), /^entry "a\/one" is compressed \(method 8\), expected stored/);
  for (const flags of [1, 0x40, 0x2000]) {
    refused(lying({ flags }), /^entry "a\/one" is encrypted, expected plain content/);
  }
});

Deno.test("refuses entries that are there twice, outside the file or of two sizes", () => {
  refused(zipFile([ONE, TWO, ONE]), /^entry "a\/one" is there twice$/);
  refused(lying({ header: 5000 }), /^entry "a\/one" lies outside the file$/);
  refused(lying({ header: 2 ** 40, zip64: true }), /^entry "a\/one" lies outside the file$/);
  refused(lying({ size: 2 ** 52, stored: 2 ** 52, zip64: true }), /lies outside the file$/);
  refused(lying({ size: 4 }), /^entry "a\/one" has 5 bytes stored for 4, expected the same$/);
  // 0xffffffff says that the place is in a zip64 field, which this entry doesn't have.
  refused(lying({ header: 0xffffffff }), /^entry "a\/one" lies outside the file$/);
  const broken = /^is damaged: the name of zip entry 1 is not valid UTF-8$/;
  refused(lying({ name: Uint8Array.of(0xff) }), broken);
});

Deno.test("refuses an entry whose header differs from the directory", () => {
  const position = (zip: ZipArchive) => zip.position(zip.entries.get("a/one")!);
  const problem = /^entry "a\/one" is damaged: its header differs from the zip directory$/;
  refused(lying({ header: 1 }), problem, position);
  refused(lying({ local: { name: "a/two" } }), problem, position);
  refused(lying({ local: { name: "a/longer" } }), problem, position);
  refused(lying({ local: { flags: 1 } }), problem, position);
  refused(lying({ local: { method: 8 } }), problem, position);
  // Its extra field would reach beyond the entries.
  const alone = zipFile([ONE]);
  refused(patched(alone, 28, little(65535, 2)), problem, position);
});

Deno.test("refuses content with another checksum, or longer than the limit", () => {
  const content = (limit: number) => (zip: ZipArchive) =>
    void zip.content(zip.entries.get("a/one")!, limit);
  const damaged = /^entry "a\/one" is damaged: its checksum is not that of its content$/;
  refused(lying({ crc: 7 }), damaged, content(5));
  refused(zipFile([ONE]), /^entry "a\/one" has 5 bytes, more than the limit of 4$/, content(4));
});

Deno.test("refuses a directory that is not where it is said to be", () => {
  const plain = zipFile([ONE, TWO]);
  refused(
    patched(plain, -6, little(plain.length, 4)),
    /^is damaged: its zip directory lies outside/,
  );
  refused(
    patched(plain, -6, little(3, 4)),
    /^is damaged: entry 0 of its zip directory is not where/,
  );
  refused(patched(plain, -12, little(3, 2)), /^is damaged: entry 2 of its zip directory is not/);
  refused(patched(plain, -12, little(1, 2)), /^is damaged: its zip directory is longer than its/);
  const end = plain.length - 22, name = end - 46 - 6 + 28; // the second entry's
  refused(patched(plain, name, little(999, 2)), /^is damaged: entry 1 of its zip directory has no/);
  refused(
    patched(plain, -6, little(0xffffffff, 4)),
    /^is damaged: its zip64 end record is missing$/,
  );
  const wide = zipFile([ONE, TWO], { zip64: true });
  refused(patched(wide, -34, little(2 ** 40, 8)), /^is damaged: its zip64 end record lies outside/);
  refused(patched(wide, -34, little(8, 8)), /^is damaged: its zip64 end record is not where it/);
  const huge = patched(wide, wide.length - 42 - 56 + 32, little(20_001, 8));
  refused(huge, /^has a zip directory of 20001 entries, more than any model's$/);
});
