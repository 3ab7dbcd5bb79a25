import assert from "node:assert/strict";
import { fakeDeno, FakeSystem, type Outcome, variableOf } from "./fake_system.ts";

function vulkanTest(name: string, body: (system: FakeSystem) => Promise<void>): void {
  const windows = Deno.build.os === "windows";
  Deno.test({
    name: `launcher, Vulkan: ${name}${windows ? " (ignored: no POSIX shell on Windows)" : ""}`,
    ignore: windows,
    async fn() {
      await using system = await FakeSystem.create();
      await system.program("deno", fakeDeno("2.9.6"));
      await body(system);
    },
  });
}

function driverOf(outcome: Outcome): string | undefined {
  assert.equal(outcome.code, 0, outcome.stderr);
  assert.equal(
    variableOf(outcome, "VK_DRIVER_FILES"),
    variableOf(outcome, "VK_ICD_FILENAMES"),
    "old and new loaders are told the same",
  );
  return variableOf(outcome, "VK_DRIVER_FILES");
}

vulkanTest("without a GPU, names the software driver", async (system) => {
  const software = await system.softwareDriver();
  await system.file("usr/share/vulkan/icd.d/intel_icd.x86_64.json");
  await system.file("usr/share/vulkan/icd.d/lvp_icd.i686.json");
  await system.file("usr/share/vulkan/icd.d/lvp_icd.aarch64.json");
  assert.equal(driverOf(await system.run(["train"])), software);
  // An NVIDIA driver whose GPU is not there is no use either.
  await system.file("etc/vulkan/icd.d/nvidia_icd.json");
  assert.equal(driverOf(await system.run(["train"])), software);
});

vulkanTest("an NVIDIA GPU's driver comes first, wherever it lies", async (system) => {
  await system.softwareDriver();
  await system.file("dev/nvidiactl");
  const folder = "usr/local/nvidia/share/vulkan/icd.d";
  await system.file(`${folder}/nvidia_icd.i686.json`); // for 32-bit programs, beside the other
  const nvidia = await system.file(`${folder}/nvidia_icd.x86_64.json`);
  const outcome = await system.run(["train"]);
  assert.equal(driverOf(outcome), nvidia);
  assert.equal(
    variableOf(outcome, "LD_LIBRARY_PATH"),
    system.path("system/usr/local/nvidia/lib64"),
  );
});

vulkanTest("sees what Deno shows only to those that may do everything, as /dev", async (system) => {
  if (Deno.build.os !== "linux") return;
  await system.softwareDriver();
  await system.file("dev/nvidiactl");
  await system.file("etc/vulkan/icd.d/nvidia_icd.json");
  const sysroot = `/proc/self/root${system.path("system")}`;
  const outcome = await system.run(["train"], { env: { LORIKEET_SYSROOT: sysroot } });
  assert.equal(driverOf(outcome), `${sysroot}/etc/vulkan/icd.d/nvidia_icd.json`);
});

vulkanTest("an NVIDIA GPU without its Vulkan driver is pointed out", async (system) => {
  const software = await system.softwareDriver();
  await system.file("dev/nvidia0");
  const outcome = await system.run(["generate"]);
  assert.equal(driverOf(outcome), software);
  assert.match(outcome.stderr, /^note: an NVIDIA GPU is here.*nvidia_icd\.json/);
});

vulkanTest("another GPU's driver is left to the loader", async (system) => {
  await system.softwareDriver();
  await system.file("usr/share/vulkan/icd.d/radeon_icd.x86_64.json");
  await system.file("dev/dri/renderD128");
  assert.equal(driverOf(await system.run(["train"])), "unset");
});

vulkanTest("the user's own choice of driver stays", async (system) => {
  await system.softwareDriver();
  const outcome = await system.run(["train"], { env: { VK_DRIVER_FILES: "/own.json" } });
  assert.equal(variableOf(outcome, "VK_DRIVER_FILES"), "/own.json");
  assert.equal(variableOf(outcome, "VK_ICD_FILENAMES"), "unset");
});

vulkanTest("Deno may not fall back to OpenGL unless the user says so", async (system) => {
  await system.softwareDriver();
  const backend = async (env: Record<string, string>) =>
    variableOf(await system.run(["train"], { env }), "DENO_WEBGPU_BACKEND");
  assert.equal(await backend({}), "vulkan");
  assert.equal(await backend({ DENO_WEBGPU_BACKEND: "gl" }), "gl");
});

vulkanTest("a loader outside the usual folders is found", async (system) => {
  await system.file("usr/share/vulkan/icd.d/lvp_icd.x86_64.json");
  await system.file("usr/local/nvidia/lib64/libvulkan.so.1");
  const folder = system.path("system/usr/local/nvidia/lib64");
  const found = await system.run(["train"], { env: { LD_LIBRARY_PATH: "/a:/b" } });
  assert.equal(variableOf(found, "LD_LIBRARY_PATH"), `${folder}:/a:/b`, found.stderr);
  const known = await system.run(["train"], { env: { LD_LIBRARY_PATH: `/a:${folder}` } });
  assert.equal(variableOf(known, "LD_LIBRARY_PATH"), `/a:${folder}`, known.stderr);
  await system.program("ldconfig", "echo 'libvulkan.so.1 (libc6) => /opt/lib/libvulkan.so.1'");
  assert.equal(variableOf(await system.run(["train"]), "LD_LIBRARY_PATH"), "unset");
});

vulkanTest("without a driver or without a loader, says the one command to run", async (system) => {
  const expectCommand = async (command: string) => {
    const { code, stdout, stderr } = await system.run(["train"]);
    assert.equal(code, 1);
    assert.equal(stdout, "", "the program is not started");
    assert.match(stderr, /^error: no Vulkan driver \(or no loader, libvulkan\.so\.1\) was found/);
    assert.ok(stderr.includes(`\n    ${command}\n`), stderr);
  };
  await system.file(
    "etc/os-release",
    'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n',
  );
  await expectCommand("sudo dnf install -y mesa-vulkan-drivers vulkan-loader");
  await system.file("etc/os-release", "ID=arch\n");
  await expectCommand("sudo pacman -S --needed vulkan-swrast vulkan-icd-loader");
  await system.file("usr/lib/x86_64-linux-gnu/libvulkan.so.1"); // a loader alone is not enough
  await system.program("apt-get", "exit 99");
  await expectCommand("sudo apt-get install -y mesa-vulkan-drivers libvulkan1");
  await Deno.remove(system.path("system/usr/lib/x86_64-linux-gnu/libvulkan.so.1"));
  await system.file("usr/share/vulkan/icd.d/lvp_icd.x86_64.json"); // nor is a driver alone
  await expectCommand("sudo apt-get install -y mesa-vulkan-drivers libvulkan1");
});

vulkanTest(
  "--install installs the software driver for root on Debian, and nothing else does",
  async (system) => {
    await system.program("id", "echo 0");
    const icd = system.path("system/usr/share/vulkan/icd.d");
    const lib = system.path("system/usr/lib/x86_64-linux-gnu");
    // As in a fresh container: nothing can be installed before the lists are there.
    await system.program(
      "apt-get",
      `echo "$DEBIAN_FRONTEND $*" >>"\${0%/*}/apt.calls"
case $1 in
  update) : >"\${0%/*}/lists" ;;
  install) [ -e "\${0%/*}/lists" ] || { echo 'E: Unable to locate package' >&2; exit 100; }
    mkdir -p "${icd}" "${lib}"; : >"${icd}/lvp_icd.x86_64.json"; : >"${lib}/libvulkan.so.1" ;;
esac`,
    );
    const unasked = await system.run(["train"]);
    assert.deepEqual([unasked.code, unasked.stdout], [1, ""]);
    assert.match(unasked.stderr, /\n {4}apt-get install -y mesa-vulkan-drivers libvulkan1\n/);
    assert.match(unasked.stderr, /or let `\.\/lorikeet --install` do it/);
    await assert.rejects(Deno.stat(system.path("bin/apt.calls")), "nothing was installed");
    const outcome = await system.run(["--install"]);
    assert.deepEqual([outcome.code, outcome.stdout], [0, ""]);
    assert.match(
      outcome.stderr,
      /^Installing a Vulkan driver \(mesa-vulkan-drivers libvulkan1\)[^\n]*\n$/,
    );
    const calls = await Deno.readTextFile(system.path("bin/apt.calls"));
    assert.match(
      calls,
      /^noninteractive install -y .*\n update -qq\nnoninteractive install -y .*\n$/,
    );
    const train = await system.run(["train"]);
    assert.deepEqual([driverOf(train), train.stderr], [`${icd}/lvp_icd.x86_64.json`, ""]);
    assert.equal((await system.run(["--install"])).stderr, "", "there is one now");
  },
);

vulkanTest("a failed installation says what apt-get said", async (system) => {
  await system.program("id", "echo 0");
  await system.program("apt-get", "echo 'E: no space left' >&2; exit 100");
  const { code, stdout, stderr } = await system.run(["--install"]);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /E: no space left\nerror: no Vulkan driver was found, and `apt-get install/);
});

vulkanTest("asking for help needs no driver", async (system) => {
  assert.equal((await system.run(["train", "--help"])).code, 0);
  assert.equal((await system.run(["generate", "-h"])).code, 0);
});

vulkanTest("XDG_RUNTIME_DIR is a private folder where it is missing", async (system) => {
  await system.softwareDriver();
  for (const XDG_RUNTIME_DIR of [undefined, "", "/nonexistent"]) {
    const given = variableOf(
      await system.run(["train"], { env: { XDG_RUNTIME_DIR } }),
      "XDG_RUNTIME_DIR",
    );
    assert.equal(given, system.path("project/.deno/runtime"));
    assert.equal((await Deno.stat(given)).mode! & 0o777, 0o700);
  }
  const own = await system.run(["train"], { env: { XDG_RUNTIME_DIR: system.path("home") } });
  assert.equal(variableOf(own, "XDG_RUNTIME_DIR"), system.path("home"));
});
