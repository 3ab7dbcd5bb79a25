/** `lorikeet doctor` as a user runs it, also where nothing works. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Check } from "../../doctor/check.ts";
import { ROOT } from "../../scripts/compile.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { gpuTest } from "../kernels/harness.ts";

/** What the doctor says on this machine with these changes. */
async function doctor(
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; canTrain: boolean; checks: Map<string, Check> }> {
  const { code, stdout, stderr } = await new Deno.Command(join(ROOT, "lorikeet"), {
    args: ["doctor", "--json", ...args],
    env,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert.equal(text.decode(stderr), "");
  const { can_train, checks } = JSON.parse(text.decode(stdout));
  return {
    code,
    canTrain: can_train,
    checks: new Map(checks.map((check: Check) => [check.name, check])),
  };
}

/** Names of the checks that found a problem, each of which has a remedy. */
function problems(checks: ReadonlyMap<string, Check>): string[] {
  for (const { name, status, remedy } of checks.values()) {
    assert.equal(remedy !== undefined, status !== "ok", name);
    if (remedy !== undefined) assert.match(remedy, /^[A-Z`][^]*\.$/, name);
  }
  return [...checks.values()].filter(({ status }) => status === "problem").map(({ name }) => name);
}

gpuTest("doctor: a machine where training runs", async () => {
  using folder = new TemporaryFolder();
  const { code, canTrain, checks } = await doctor(["--output", folder.file("runs/new")]);
  assert.deepEqual([code, canTrain, problems(checks)], [0, true, []]);
  for (
    const name of "deno,gpu,limits,f16,subgroups,tensor cores,gpu memory,speed,dawn,host memory"
      .concat(",run folder,caches").split(",")
  ) {
    assert.ok(checks.has(name), name);
  }
  const speed = checks.get("speed")?.details;
  assert.ok(Number(speed?.copy_gb_per_second) > 0.01);
  assert.ok(Number(speed?.product_f32_tflop_per_second) > 1e-5);
  assert.equal(speed?.right, true);
  assert.deepEqual([...Deno.readDirSync(folder.path)], [], "it leaves nothing");
});

Deno.test({
  name: "doctor: drivers that give no GPU",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using folder = new TemporaryFolder();
    const env = { VK_DRIVER_FILES: folder.file("own_icd.json", "") };
    const { code, canTrain, checks } = await doctor(["--output", folder.path], env);
    assert.deepEqual([code, canTrain, problems(checks)], [1, false, ["drivers", "gpu"]]);
    const { found = "", remedy } = checks.get("drivers") ?? {};
    assert.equal(found, "own_icd.json: no GPU of its own (named by VK_DRIVER_FILES)");
    assert.match(remedy ?? "", /^Unset VK_DRIVER_FILES/);
    assert.equal(checks.get("gpu")?.found, "no GPU adapter was found");
    assert.ok(!checks.has("speed"));
  },
});

Deno.test({
  name: "doctor: no loader, no driver, and a run folder that can't be written",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using folder = new TemporaryFolder();
    Deno.writeTextFileSync(folder.file("ldconfig"), "#!/bin/sh\n", { mode: 0o755 });
    const env = {
      LORIKEET_SYSROOT: folder.path,
      PATH: `${folder.path}:${Deno.env.get("PATH")}`,
      LD_LIBRARY_PATH: "",
    };
    const output = folder.file("file", "");
    const { code, checks } = await doctor(["--output", join(output, "run")], env);
    assert.equal(code, 1);
    assert.deepEqual(problems(checks), ["loader", "drivers", "gpu", "run folder"]);
    assert.equal(checks.get("loader")?.found, "libvulkan.so.1 was not found");
    assert.match(checks.get("loader")?.remedy ?? "", /^Install the (loader|Vulkan loader) and/);
    assert.equal(
      checks.get("run folder")?.found,
      `${output} can't be written: it is no folder`,
    );
  },
});

Deno.test("doctor: it needs what the launcher sees", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", "--allow-read", join(ROOT, "doctor/main.ts")],
    stdin: "null",
  }).output();
  assert.equal(code, 1);
  assert.match(new TextDecoder().decode(stderr), /^error: .* expected `\.\/lorikeet doctor`$/m);
});
