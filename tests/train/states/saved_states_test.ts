/** The states of a run's folder: how they are kept, what damage is found in them, and what is taken then. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { clearStates, savedStates } from "../../../train/states/saved_states.ts";
import { loadNewest, newestState } from "../../../train/states/state.ts";
import { StateSaver } from "../../../train/states/state_saver.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { assertSameTensors } from "../../same.ts";
import { openTrainer, parameters } from "../runs.ts";
import {
  expecting,
  identity,
  load,
  LORA,
  namesIn,
  progressAt,
  save,
  train,
  WINDOWS,
  withFolder,
} from "./states.ts";

gpuTest("the last states stay, and nothing of what a killed save left behind", async (gpu) => {
  await withFolder(async (states) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS), progress = progressAt();
    await save(gpu, trainer, states, progress);
    for (const left of [".step-00000001.new", ".step-00000000.old"]) {
      Deno.mkdirSync(join(states, left));
      Deno.writeTextFileSync(join(states, left, "state.json"), "{");
    }
    for (const step of [1, 2, 3]) {
      await train(gpu, trainer, progress, step);
      const state = await save(gpu, trainer, states, progress);
      assert.equal(load(gpu, trainer, state).step, step);
    }
    clearStates(states);
    assert.deepEqual(namesIn(states), ["step-00000002", "step-00000003"]);
    // A run that has gone back to an earlier step leaves no later one: it was damaged.
    const back = load(gpu, trainer, savedStates(states)[1]);
    assert.equal(back.step, 2);
    await save(gpu, trainer, states, back);
    assert.deepEqual(namesIn(states), ["step-00000002"]);
  });
});

gpuTest(
  "60 flipped bits and 20 truncations: 80 states refused by the file's name, and the one before taken",
  async (gpu) => {
    await withFolder(async (states) => {
      const trainer = openTrainer(gpu, LORA, WINDOWS), progress = progressAt();
      const older = await save(gpu, trainer, states, progress);
      const before = await parameters(gpu, trainer);
      await train(gpu, trainer, progress, 1);
      const state = await save(gpu, trainer, states, progress);
      const damage = (name: string, what: string, change: (bytes: Uint8Array) => Uint8Array) => {
        const path = join(state.path, name), good = Deno.readFileSync(path);
        Deno.writeFileSync(path, change(good.slice()));
        const where = new RegExp(name.replace(".", "\\."));
        assert.throws(() => load(gpu, trainer, state), expecting(where), `${name}, ${what}`);
        const said: string[] = [], say = (line: string) => said.push(line);
        const found = { states: [state, older], identity: identity(trainer), say };
        assert.equal(loadNewest(gpu, trainer, found).step, 0, `${name}, ${what}`);
        assert.match(said.join(), where);
        Deno.writeFileSync(path, good);
      };
      const flip = (name: string, bit: number) =>
        damage(name, `bit ${bit & 7} of byte ${bit >> 3}`, (bytes) => {
          bytes[bit >> 3] ^= 1 << (bit & 7);
          return bytes;
        });
      const bits = (name: string, first: number, end: number, count: number) => {
        for (let i = 0; i < count; i++) {
          flip(name, 8 * Math.floor(first + (i + 0.5) / count * (end - first)) + (3 * i) % 8);
        }
      };
      const { size } = Deno.statSync(join(state.path, "state.safetensors"));
      const head = 8 + Number(
        new DataView(Deno.readFileSync(join(state.path, "state.safetensors")).buffer).getBigUint64(
          0,
          true,
        ),
      );
      bits("state.safetensors", 0, 8, 8);
      bits("state.safetensors", 8, head, 16);
      bits("state.safetensors", head, size, 16);
      bits("state.json", 0, Deno.statSync(join(state.path, "state.json")).size, 20);
      for (const name of ["state.safetensors", "state.json"]) {
        for (let i = 0; i < 10; i++) {
          const share = [0, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1][i];
          damage(name, `cut at ${share}`, (bytes) => {
            return bytes.subarray(0, Math.min(bytes.length - 1, Math.floor(share * bytes.length)));
          });
        }
      }
      assertSameTensors(await parameters(gpu, trainer), before);
      assert.equal(load(gpu, trainer, state).step, 1, "undamaged");
    });
  },
);

gpuTest("a damaged state is named, and the one before it taken", async (gpu) => {
  await withFolder(async (states) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS), progress = progressAt(), said: string[] = [];
    for (const step of [1, 2]) {
      await train(gpu, trainer, progress, step);
      await save(gpu, trainer, states, progress);
    }
    const found = savedStates(states);
    const newest = () =>
      loadNewest(gpu, trainer, {
        states: found,
        identity: identity(trainer),
        say: (line) => said.push(line),
      });
    assert.equal(newest().step, 2);
    assert.deepEqual(said, []);
    const damage = (path: string) => {
      const bytes = Deno.readFileSync(path);
      bytes[bytes.length >> 1] ^= 1;
      Deno.writeFileSync(path, bytes);
    };
    damage(join(found[0].path, "state.safetensors"));
    assert.equal(newest().step, 1);
    assert.match(said.join(), /step-00000002\S*: .* is damaged[^]*The state before it is taken\./);
    assert.equal(newestState(found, () => {}).progress.step, 2, "by its state.json alone");
    damage(join(found[0].path, "state.json"));
    assert.equal(newestState(found, () => {}).progress.step, 1);
    damage(join(found[1].path, "state.json"));
    assert.throws(newest, expecting(/^all 2 states are damaged; the last one: \S*step-00000002/));
  });
});

gpuTest(
  "a state that can't be written leaves the others alone, and is saved another time",
  async (gpu) => {
    await withFolder(async (states) => {
      const trainer = openTrainer(gpu, LORA, WINDOWS), progress = progressAt();
      const state = await save(gpu, trainer, states, progress);
      await train(gpu, trainer, progress, 1);
      // A file where the new state's folder is to be made.
      const blocked = join(states, "blocked");
      Deno.writeTextFileSync(blocked, "");
      await using saver = new StateSaver(gpu, trainer, () => 1);
      saver.prepare();
      const begin = (states: string) =>
        saver.save(progress, identity(trainer), { states, keep: 2, sync: [] });
      const { written } = await begin(blocked);
      await assert.rejects(written, expecting(/cannot write \S*blocked.step-00000001: /));
      Deno.removeSync(blocked);
      assert.deepEqual(namesIn(states), ["step-00000000"]);
      assert.equal(load(gpu, openTrainer(gpu, LORA, WINDOWS), state).step, 0);
      // One byte at most may wait for the disk: then each piece is written before the next is read.
      await (await begin(states)).written;
      assert.deepEqual(namesIn(states), ["step-00000000", "step-00000001"]);
      assert.equal(load(gpu, trainer, savedStates(states)[0]).step, 1);
    });
  },
);
