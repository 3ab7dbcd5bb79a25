/** Runs on large data files and on mixtures of several. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeTrainConfig, type PartialTrainConfig } from "../../train/config/config.ts";
import { windowSamples } from "../../train/data.ts";
import { openTraining, type Training } from "../../train/training.ts";
import type { SampleGroup } from "../../model/text/prompt.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { gpuTest } from "../kernels/harness.ts";
import { lines, writeLarge } from "../large_data.ts";

/** The losses of the steps that a loop does, at most so many. */
async function losses(training: Training, most = Infinity): Promise<number[]> {
  const all: number[] = [];
  for await (const { loss } of training.steps()) if (all.push(loss) >= most) break;
  return all;
}

/** The losses of a run of two steps, which is saved after the first and gone on with. */
async function resumed(
  settings: PartialTrainConfig,
  output: string,
  between: () => void = () => {},
): Promise<number[]> {
  const config = makeTrainConfig({ ...settings, output, resume: "auto" }), all: number[] = [];
  for (const most of [1, Infinity]) {
    await using training = await openTraining(config);
    all.push(...await losses(training, most));
    await training.saveState();
    await training.saved();
    if (most === 1) between();
  }
  return all;
}

const SHORT = { max_steps: 2, gradient_accumulation_steps: 2, max_length: 96 } as const;

gpuTest(
  "large data: the first rows of a file, streamed, give the steps of those rows alone",
  async () => {
    using folder = new TemporaryFolder();
    const large = join(folder.path, "large.jsonl"), samples = 20_000;
    writeLarge(large, 65 << 20);
    const small = folder.file("small.jsonl", lines(samples));
    await using whole = await openTraining(
      makeTrainConfig({ ...SHORT, data: small, output: folder.file("whole") }),
    );
    assert.equal(whole.setup.samples.mostTokens, undefined);
    const expected = await losses(whole), settings = { ...SHORT, data: large, samples };
    {
      await using streamed = await openTraining(
        makeTrainConfig({ ...settings, output: folder.file("streamed") }),
      );
      assert.equal(streamed.setup.samples.mostTokens, 96);
      assert.deepEqual(await losses(streamed), expected);
    }
    assert.deepEqual(await resumed(settings, folder.file("resumed")), expected);
    const change = () => {
      using file = Deno.openSync(large, { read: true, write: true });
      file.seekSync(2_000_000, Deno.SeekMode.Start);
      const text = new Uint8Array(40);
      file.readSync(text);
      // A digit of an output is another digit.
      const at = text.findIndex((byte, i) => byte === 0x77 && text[i + 1] >= 0x31);
      file.seekSync(2_000_000 + at + 1, Deno.SeekMode.Start);
      file.writeSync(Uint8Array.of(text[at + 1] ^ 1));
    };
    await assert.rejects(
      resumed(settings, folder.file("changed"), change),
      /with data of 20000 samples, \d+ bytes, …[0-9a-f]{12}, not of 20000 samples, \d+ bytes, …/,
    );
  },
);

gpuTest(
  "mixtures: shares are told, runs repeat and go on, and other weights are another run",
  async () => {
    using folder = new TemporaryFolder();
    const [few, many] = [4, 40].map((count) => folder.file(`${count}.jsonl`, lines(count)));
    const mixture = (
      weight: number,
    ) => [{ path: few, weight }, { path: many, weight: 1, samples: 20 }];
    const settings = { ...SHORT, max_steps: undefined, epochs: 1, data: mixture(3) };
    await using whole = await openTraining(
      makeTrainConfig({ ...settings, output: folder.file("whole") }),
    );
    const { plan, samples, fingerprints } = whole.setup;
    assert.deepEqual([samples.length, plan.samples.length, whole.total], [24, 24, 12]);
    assert.deepEqual(fingerprints.data.samples, 24);
    const expected = await losses(whole);
    assert.deepEqual(await resumed(settings, folder.file("resumed")), expected);
    const output = folder.file("other"), resume = "auto";
    {
      await using training = await openTraining(makeTrainConfig({ ...settings, output, resume }));
      await losses(training, 1);
      await training.saveState();
      await training.saved();
    }
    const other = makeTrainConfig({ ...settings, data: mixture(2), output, resume });
    await assert.rejects(openTraining(other), /with data of 24 samples, \d+ tokens, …/);
    // Without weights, all samples come once an epoch.
    await using joined = await openTraining(
      makeTrainConfig({ ...settings, data: [few, many], output: folder.file("joined") }),
    );
    const { plan: { mixture: none, samples: all } } = joined.setup;
    assert.deepEqual([none, all.length, joined.total], [undefined, 44, 22]);
  },
);

Deno.test("large data: the next row that has something to learn takes the place of one that has not", () => {
  const groups: (SampleGroup | undefined)[] = [0, 1, 2, 3, 4, 5].map((i) =>
    [1, 2, 5].includes(i)
      ? undefined
      : [{ ids: Uint32Array.of(i, 9), targets: [[1, 2]], truncated: false }]
  );
  const list = {
    length: groups.length,
    at: (i: number) => groups[i],
    *[Symbol.iterator]() {
      for (const group of groups) if (group !== undefined) yield group;
    },
  };
  const firstIds = (window: number[][], among: number[]) =>
    windowSamples(window, list, among).map((batch) => batch.map(({ ids }) => ids[0]));
  assert.deepEqual(firstIds([[0, 1], [2, 5]], [0, 1, 2, 3, 4, 5]), [[0, 3], [3, 0]]);
  // Held-out rows are not taken.
  assert.deepEqual(firstIds([[1], [5]], [1, 2, 4, 5]), [[4], [4]]);
  assert.throws(() => firstIds([[1]], [1, 2]), /no sample of the data has any of its output/);
});
