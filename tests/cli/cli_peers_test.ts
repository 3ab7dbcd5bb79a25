/** `lorikeet bench peers`: with fakes for both sides, and with a real PyTorch where there is one. */
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { lorikeetProgram, Measurements } from "../../bench/course/measurements.ts";
import { peersLines } from "../../bench/course/peers/lines.ts";
import { type Peers, peers, type PeersSettings } from "../../bench/course/peers/series.ts";
import { randomSample } from "../../bench/samples.ts";
import { combinations } from "../../bench/course/table2.ts";
import { UserError } from "../../kernels/errors.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { ROOT } from "../../scripts/compile.ts";
import { epochOrder } from "../../train/data.ts";
import { lorikeet, refused, TemporaryFolder } from "./cli.ts";
import { fakeLauncher } from "../fake_launcher.ts";
import { gpu } from "../kernels/harness.ts";
import { promptLengthOf } from "../../model/text/targets.ts";

const SETTINGS: PeersSettings = {
  model: "random:tiny",
  samples: 3,
  gpu: "auto",
  optimizer: "adamw",
  learning_rate: 1e-5,
  trust_plan: false,
  python: "",
};

/** A launcher; `refuses` is a pattern of commands that don't fit, and who says so. */
const launcher = (gpu: string, software: boolean, refuses = "none) by=") =>
  fakeLauncher({ gpu, software, provider: "dawn", refuses: `${refuses} ;;` });

const info = (cuda: string | null, torch = "2.0") =>
  JSON.stringify({
    implementation: "transformers and peft",
    torch,
    transformers: "5.0",
    peft: "0.9",
    cuda,
  });

/** A Python whose runs need 4 MB and 5 s, without LoRA more than there is; it notes its commands in `calls`. */
const torch = (calls: string, cuda: string | null, version?: string) =>
  `info='${info(cuda, version)}'
[ "$2" != --versions ] || { echo "$info"; exit; }
echo "$*" >>'${calls}'
case "$*" in
  *"--lora off"*) rest='"fits": false' ;;
  *) rest='"fits": true, "peak_memory_mb": 4, "losses": [3, 2, 1], "step_seconds": [4, 1]' ;;
esac
echo "\${info%?}, $rest}"`;

/** A machine of fakes: files of one folder. */
class Fakes extends TemporaryFolder {
  readonly calls: string = this.file("calls", "");

  /** A script as a program. */
  program(name: string, script: string): string {
    const path = this.file(name, `#!/bin/sh\n${script}\n`);
    Deno.chmodSync(path, 0o755);
    return path;
  }

  async peers(
    launcher: string,
    python: string,
    settings: Partial<PeersSettings> = {},
  ): Promise<Peers> {
    const ours = lorikeetProgram("sh", [this.file("launcher.sh", launcher)]);
    const measurements = await Measurements.open(this.file("results"), "auto", ours);
    return await peers(measurements, { ...SETTINGS, ...settings, python });
  }

  /** The techniques of PyTorch's runs so far. */
  runs(): string[] {
    return Deno.readTextFileSync(this.calls).trim().split("\n")
      .map((line) => line.slice(line.indexOf("--gradient")));
  }
}

Deno.test("bench peers: each row of table 2 by both, with the ratios of those that fit", async () => {
  using fakes = new Fakes();
  const python = fakes.program("python", torch(fakes.calls, "G"));
  const result = await fakes.peers(launcher("G", false), python);
  assert.deepEqual(
    [result.model, result.samples, result.tokens, result.provider, result.torch.peft],
    ["random:tiny", 3, 5, "dawn", "0.9"],
  );
  assert.equal(result.torch.device, "cuda");
  assert.equal(fakes.runs().length, 16);
  for (const [i, row] of result.rows.entries()) {
    const { lorikeet, torch, time_ratio, memory_ratio, ...combination } = row;
    assert.deepEqual(combination, combinations("adamw")[i]);
    assert.deepEqual([lorikeet.runtime_s, lorikeet.peak_memory_mb], [2, 8]);
    if (row.lora) {
      assert.deepEqual([torch!.runtime_s, torch!.peak_memory_mb, torch!.first_loss], [5, 4, 2]);
      assert.deepEqual([time_ratio, memory_ratio], [2.5, 0.5]);
    } else {
      assert.deepEqual([torch, time_ratio, memory_ratio], [{ fits: false }, undefined, undefined]);
    }
  }
  const lines = peersLines(result, false);
  assert.match(lines[2], /^PyTorch 2.0, transformers 5.0, peft 0.9 on G$/);
  const cells = (line: string) => line.trim().split(/\s{2,}/);
  assert.deepEqual(cells(lines[5]), "OFF OFF OFF none adamw 2.00 × 8.0 ×".split(" "));
  assert.deepEqual(cells(lines[6]), "OFF OFF ON none adamw 2.00 5.00 2.50 8.0 4.0 0.50".split(" "));
  assert.match(peersLines(result, true).join("\n"), /^\| OFF \| OFF \| +ON \| .* 2\.50 \|/m);
  await fakes.peers(launcher("G", false), python);
  assert.equal(fakes.runs().length, 16, "nothing is measured again");
});

Deno.test("bench peers: what the plan refuses and nobody tries is not tried in PyTorch", async () => {
  const refuses = "*adamw*--ignore-plan*) by=driver ;;\n  *adamw*) by=plan";
  for (const trust_plan of [false, true]) {
    using fakes = new Fakes();
    const python = fakes.program("python", torch(fakes.calls, "G"));
    const only = "accumulation-8-mixed-lora-on";
    const result = await fakes.peers(launcher("G", false, refuses), python, { trust_plan, only });
    assert.deepEqual(
      result.rows.map(({ optimizer, checkpointing, lorikeet, torch, time_ratio }) => [
        ...[optimizer, checkpointing, lorikeet.fits, torch?.fits, time_ratio],
      ]),
      ["none", "block"].flatMap((mode) => [
        ["adamw", mode, false, trust_plan ? undefined : true, undefined],
        ["sgd", mode, true, true, 2.5],
      ]),
    );
    assert.equal(fakes.runs().length, trust_plan ? 2 : 4);
    const text = peersLines(result, false).join("\n");
    assert.equal(text.includes("was not tried in PyTorch either"), trust_plan);
  }
});

Deno.test("bench peers: PyTorch is given the samples that Lorikeet trains on, in its order", async () => {
  using fakes = new Fakes();
  const python = fakes.program("python", torch(fakes.calls, null));
  const only = "accumulation-8-fp32-lora-on-checkpointing-block";
  const { torch: { device } } = await fakes.peers(launcher("llvmpipe", true), python, { only });
  const [call] = Deno.readTextFileSync(fakes.calls).trim().split("\n");
  const [script, path, ...flags] = call.split(" ");
  assert.equal(basename(script), "torch_rows.py");
  assert.deepEqual(flags, [
    ...["--gradient-accumulation-steps", "8", "--precision", "fp32", "--lora", "on"],
    ...["--checkpointing", "block", "--optimizer", "adamw"],
  ]);
  const { config, samples, ...settings } = JSON.parse(Deno.readTextFileSync(path));
  const { vocab_size, hidden_size } = presetConfig("tiny");
  assert.deepEqual([config.vocab_size, config.hidden_size], [vocab_size, hidden_size]);
  assert.deepEqual(
    samples,
    [...epochOrder(3, 0, 42, true)].map((i) => {
      const sample = randomSample(i, vocab_size, 512);
      return { ids: [...sample.ids], prompt_length: promptLengthOf(sample) };
    }),
  );
  assert.deepEqual([device, settings], [
    "cpu",
    {
      device: "cpu",
      seed: 42,
      learning_rate: 1e-5,
      betas: [0.9, 0.999],
      eps: 1e-8,
      weight_decay: 0,
      lora: { rank: 16, alpha: 32, dropout: 0.05, targets: ["q_proj", "v_proj"] },
    },
  ]);
});

Deno.test("bench peers: one sentence where there is no PyTorch, no Python, or no use for it", async () => {
  using fakes = new Fakes();
  const { calls } = fakes;
  const fails = async (python: string, ...patterns: RegExp[]) => {
    const settings = { only: "fp32-lora-on-checkpointing-none" };
    await assert.rejects(fakes.peers(launcher("G", false), python, settings), (error) => {
      assert.ok(error instanceof UserError, `${error}`);
      for (const pattern of patterns) assert.match(error.message, pattern);
      return true;
    });
  };
  const expected = /expected a Python 3 that can import torch: name it with --python PROGRAM$/;
  await fails("no-such-python", /^no-such-python can't be run; /, expected);
  const none = "echo \"error: PyTorch can't be imported: No module named 'torch'\" >&2; exit 1";
  await fails(
    fakes.program("none", none),
    /none .*\(PyTorch can't be imported: No module/,
    expected,
  );
  await fails(fakes.program("rubbish", "echo rubbish"), /rubbish is of no use here/, expected);
  await fails(fakes.program("other", "echo '{}'"), /it does not tell its versions/, expected);
  await fails(fakes.program("cpu", torch(calls, null)), /PyTorch 2.0 finds no CUDA GPU.* on G;/);
  assert.equal(Deno.readTextFileSync(calls), "", "nothing was trained");

  const crash = torch(calls, "G").replace("case", "echo 'error: no' >&2; exit 3; case");
  await fails(fakes.program("crash", crash), /torch_rows.py .*failed \(exit code 3\): error: no$/);
  await fakes.peers(launcher("G", false), fakes.program("old", torch(calls, "G")), {
    only: "fp32-lora-on-checkpointing-none",
  });
  const newer = fakes.program("newer", torch(calls, "G", "2.1"));
  await fails(
    newer,
    /holds measurements with torch 2.0, and .*newer has 2.1; expected another --folder/,
  );
  await assert.rejects(
    fakes.peers(launcher("G", false), newer, { only: "lora-maybe" }),
    /--only is "lora-maybe"; expected a part of a row's name such as accumulation-1-fp32/,
  );
});

Deno.test("cli: bench peers knows its flags", async () => {
  refused(await lorikeet("bench", ["peers", "--pyton", "x"]), 2, "--pyton", "--python");
});

/** A Python whose PyTorch computes where Lorikeet does, where there is one. */
async function findPython(): Promise<string | undefined> {
  const there = gpu?.software ? "True" : "torch.cuda.is_available()";
  for (const python of ["python3", "/usr/bin/python3"]) {
    const args = ["-c", `import torch; assert ${there}`];
    const options = { args, stdout: "null", stderr: "null" } as const;
    const outcome = await new Deno.Command(python, options).output().catch(() => undefined);
    if (outcome?.success) return python;
  }
}

const python = await findPython();
const missing = [gpu ? "" : "GPU adapter", python ? "" : "Python with PyTorch for the GPU"];
const why = missing.filter((what) => what !== "").map((what) => `no ${what}`).join(", ");

Deno.test({
  name: `cli: bench peers with a real PyTorch, whose losses begin as chance's${
    why && ` (ignored: ${why})`
  }`,
  ignore: why !== "",
  async fn() {
    using temporary = new TemporaryFolder();
    const { code, stdout, stderr } = await new Deno.Command(join(ROOT, "lorikeet"), {
      args: [
        ...["bench", "peers", "--model", "random:tiny", "--samples", "10", "--gpu", "deno"],
        ...["--only", "accumulation-8-mixed", "--python", python!],
        ...["--folder", temporary.file("peers"), "--json"],
      ],
    }).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    const { rows, torch: { device } }: Peers = JSON.parse(new TextDecoder().decode(stdout));
    assert.equal(device, gpu!.software ? "cpu" : "cuda");
    assert.equal(rows.length, 4);
    const chance = Math.log(presetConfig("tiny").vocab_size);
    for (const { lorikeet, torch, time_ratio, memory_ratio } of rows) {
      assert.deepEqual([torch!.losses!.length, torch!.step_seconds!.length], [10, 2]);
      for (const loss of [...lorikeet.losses!, ...torch!.losses!]) {
        assert.ok(Math.abs(loss - chance) < 0.5, `${loss}`);
      }
      assert.ok(time_ratio! > 0 && memory_ratio! > 0);
    }
    // Blocks that run forward again drop the same: the losses stay what they were.
    for (const i of [0, 1]) {
      const kept = rows[i].torch!.losses!, again = rows[i + 2].torch!.losses!;
      for (const [at, loss] of kept.entries()) assert.ok(Math.abs(loss - again[at]) < 1e-3);
    }
  },
});
