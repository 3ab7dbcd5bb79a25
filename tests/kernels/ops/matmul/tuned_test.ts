/** Tiles that were measured on a GPU: which products take them, and files that hold them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import { matmulGeometry } from "../../../../kernels/ops/matmul/tiled_geometry.ts";
import {
  type AskedProduct,
  MOST_TUNED_ROWS,
  productClass,
  readTiles,
  TileChoice,
  tileNumbers,
  TUNED_STEP,
} from "../../../../kernels/ops/matmul/tuned.ts";

const GPU = { software: false };
const PRODUCT: AskedProduct = {
  orientation: "nt",
  a: "f16",
  b: "f16",
  c: "f32",
  operands: "f16",
  m: 121,
  n: 4096,
  k: 4096,
};
/** Not what is predicted best for it. */
const MEASURED = { blockM: 32, blockN: 128, blockK: 32, threadM: 4, threadN: 8, splits: 7 };

function choice(product = PRODUCT, geometry = MEASURED): TileChoice {
  return new TileChoice(GPU, { [productClass(product)!]: tileNumbers(geometry) });
}

Deno.test("measured tiles are for products of as many steps of rows, and of the same kind", () => {
  const tiles = choice();
  assert.equal(tiles.measured, 1);
  assert.deepEqual(tiles.of(PRODUCT), MEASURED);
  const first = Math.floor(121 / TUNED_STEP) * TUNED_STEP + 1;
  for (const m of [first, first + TUNED_STEP - 1]) {
    assert.deepEqual(tiles.of({ ...PRODUCT, m }), MEASURED, `${m} rows`);
  }
  const others: Partial<AskedProduct>[] = [
    ...[{ m: first - 1 }, { m: first + TUNED_STEP }, { n: 4092 }, { k: 4000 }, { maxSplits: 4 }],
    ...[{ operands: "f32" }, { a: "f32" }, { b: "f32" }, { orientation: "nn" }] as const,
  ];
  for (const other of others) {
    const { m, n, k, ...kind } = { ...PRODUCT, ...other };
    const predicted = matmulGeometry(m, n, k, { ...GPU, ...kind });
    assert.deepEqual(tiles.of({ ...PRODUCT, ...other }), predicted, JSON.stringify(other));
  }
});

Deno.test("the rows of a weight's gradient are its depth", () => {
  const product: AskedProduct = { ...PRODUCT, orientation: "tn", m: 4096, n: 128, k: 300 };
  assert.deepEqual(choice(product).of({ ...product, k: 298 }), MEASURED);
  assert.notDeepEqual(choice(product).of({ ...product, k: 290 }), MEASURED);
  assert.equal(productClass({ ...product, k: MOST_TUNED_ROWS + 1 }), undefined);
  assert.equal(productClass({ ...PRODUCT, m: MOST_TUNED_ROWS + 1 }), undefined);
});

Deno.test("measured splits of K are no more than there is room for", () => {
  const later = { ...PRODUCT, maxSplits: 8 };
  assert.equal(choice(later).of({ ...later, maxSplits: 4 }).splits, 4);
  assert.equal(choice(later).of({ ...later, maxSplits: 7 }).splits, 7);
  const many = choice(PRODUCT, { ...MEASURED, splits: 4000 }).of(PRODUCT);
  assert.ok(many.splits * 121 * 4096 * 4 <= 1 << 25, `${many.splits} splits fit working memory`);
});

Deno.test("tiles that there are not, or not for such a product, are left out", () => {
  const cases: [Partial<AskedProduct>, Partial<typeof MEASURED>][] = [
    [{}, { blockM: 36 }],
    [{ operands: "f32" }, {}],
    [{ orientation: "tn" }, { blockM: 56, threadM: 7 }],
  ];
  for (const [product, geometry] of cases) {
    const tiles = choice({ ...PRODUCT, ...product }, { ...MEASURED, ...geometry });
    assert.equal(tiles.measured, 0, JSON.stringify([product, geometry]));
  }
  assert.equal(choice(PRODUCT, { ...MEASURED, blockM: 56, threadM: 7 }).measured, 1);
});

Deno.test("who listens is told of every product", () => {
  const tiles = choice(), told: AskedProduct[] = [];
  tiles.listener = (product) => told.push(product);
  tiles.of(PRODUCT);
  tiles.of({ ...PRODUCT, m: 4000 });
  assert.deepEqual(told.map(({ m }) => m), [121, 4000]);
});

Deno.test("a file of tiles: none is none, and a damaged one is named", () => {
  const folder = Deno.makeTempDirSync(), file = join(folder, "tiles.json");
  try {
    assert.deepEqual(readTiles(file), { tiles: {} });
    const whole = {
      tiles: { "a GPU (deno)": { [productClass(PRODUCT)!]: tileNumbers(MEASURED) } },
    };
    Deno.writeTextFileSync(file, JSON.stringify(whole));
    assert.deepEqual(readTiles(file), whole);
    const damaged: [string, RegExp][] = [
      ["{", /can't be read .*; remove it, or name another with LORIKEET_TILES$/],
      ["[]", /is damaged: .*expected object/],
      [JSON.stringify({ tiles: { x: { y: [1, 2, 3] } } }), /is damaged at tiles, x, y: /],
      [JSON.stringify({ tiles: { x: { y: [0, 1, 1, 1, 1, 1] } } }), /damaged at tiles, x, y, 0: /],
    ];
    for (const [text, message] of damaged) {
      Deno.writeTextFileSync(file, text);
      assert.throws(() => readTiles(file), (error) => {
        assert.ok(error instanceof UserError && error.message.includes(file), String(error));
        assert.match(error.message, message);
        return true;
      });
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
