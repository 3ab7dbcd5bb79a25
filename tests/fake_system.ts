/**
 * A copy of the launcher in a folder of its own, on a machine made of fakes: the programs on the
 * PATH are scripts, and /usr, /etc and /dev lie in a temporary folder. Nothing is installed and
 * nothing outside the folder is touched.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** Programs of the real machine that the launcher may use. */
const TOOLS = "awk cat chmod id mkdir mktemp mv readlink rm sed sh sleep tail uname".split(" ");

/** What a command printed, and how it ended. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Deno's cache of packages, which a machine with another home folder shares. */
const { denoDir } = JSON.parse(
  new TextDecoder().decode(
    new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).outputSync().stdout,
  ),
);

/**
 * A script for the PATH that answers `--version` as Deno does and plans the launch with the real one, and else
 * prints what it was given.
 */
export function fakeDeno(version: string): string {
  return `[ "$1" != --version ] || { echo "deno ${version} (stable, release)"; exit; }
case "$*" in *scripts/launch.ts*)
  echo planned >>"\${0%/*}/deno.plans"
  HOME=/nonexistent DENO_DIR='${denoDir}' exec '${Deno.execPath()}' "$@" ;;
esac
printf 'arg:%s\\n' "$@"
printf 'cwd:%s\\n' "$PWD"
for name in VK_DRIVER_FILES VK_ICD_FILENAMES LD_LIBRARY_PATH XDG_RUNTIME_DIR DENO_DIR DENO_NO_UPDATE_CHECK DENO_WEBGPU_BACKEND DAWN_NODE LORIKEET_TILES LORIKEET_JOB_MEMORY; do
  eval "printf 'env:%s=%s\\n' $name \\"\\\${$name-unset}\\""
done`;
}

/** A script that installs the script `deno` as npm would, and notes its calls in npm.calls. */
export function fakeNpm(deno: string): string {
  return `echo "$*" >>"\${0%/*}/npm.calls"
[ -e package.json ] || { echo 'npm would install into a folder further up'; exit 1; }
for package; do :; done
folder=node_modules/\${package%@*}
sleep 0.1
mkdir -p "$folder"
cat >"$folder/deno" <<'DENO'
#!/bin/sh
${deno}
DENO
chmod +x "$folder/deno"`;
}

/** One fake machine with the launcher on it; dispose of it with `await using`. */
export class FakeSystem implements AsyncDisposable {
  private constructor(readonly folder: string) {}

  /** Makes the machine: Linux on x86_64, no Deno, no npm, no driver, a user without root. */
  static async create(): Promise<FakeSystem> {
    const system = new FakeSystem(
      await Deno.realPath(await Deno.makeTempDir({ prefix: "lorikeet launcher ' " })),
    );
    for (const name of ["tools", "bin", "home", "system"]) await Deno.mkdir(system.path(name));
    for (const tool of TOOLS) {
      for (const place of ["/usr/bin", "/bin"]) {
        const found = await Deno.stat(join(place, tool)).then(() => true, () => false);
        if (!found) continue;
        await Deno.symlink(join(place, tool), system.path("tools", tool));
        break;
      }
    }
    await Deno.mkdir(system.path("project/scripts/launch"), { recursive: true });
    await Deno.mkdir(system.path("project/kernels"));
    await Deno.mkdir(system.path("project/cli"));
    const parts = [...Deno.readDirSync(join(ROOT, "scripts/launch"))];
    for (
      const file of [
        ...[
          "lorikeet",
          "cli/server_url.ts",
          "deno.json",
          "deno.lock",
          "kernels/suggestion.ts",
          "kernels/errors.ts",
          "kernels/terminal.ts",
          "scripts/launch.ts",
        ],
        ...parts.map(({ name }) => `scripts/launch/${name}`),
      ]
    ) {
      await Deno.copyFile(join(ROOT, file), system.path("project", file));
    }
    await system.program("uname", "echo Linux x86_64");
    await system.program("id", "echo 1000");
    await system.program("ldconfig", "exit 0");
    return system;
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  /** Puts a script on the PATH. */
  async program(name: string, script: string): Promise<void> {
    await Deno.writeTextFile(this.path("bin", name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  /** Makes a file of the fake /usr, /etc or /dev, and gives its path. */
  async file(path: string, text = ""): Promise<string> {
    const place = this.path("system", path);
    await Deno.mkdir(dirname(place), { recursive: true });
    await Deno.writeTextFile(place, text);
    return place;
  }

  /** The loader and Mesa's software driver, as Debian installs them; gives the driver's file. */
  async softwareDriver(): Promise<string> {
    await this.file("usr/lib/x86_64-linux-gnu/libvulkan.so.1");
    return await this.file("usr/share/vulkan/icd.d/lvp_icd.x86_64.json");
  }

  /** Runs the launcher. `env` adds to, or with undefined removes from, the environment. */
  async run(
    args: string[],
    { env = {}, cwd = this.folder, launcher = this.path("project", "lorikeet") }: {
      env?: Record<string, string | undefined>;
      cwd?: string;
      launcher?: string;
    } = {},
  ): Promise<Outcome> {
    const all = {
      PATH: `${this.path("bin")}:${this.path("tools")}`,
      HOME: this.path("home"),
      LORIKEET_SYSROOT: this.path("system"),
      ...env,
    };
    const { code, stdout, stderr } = await new Deno.Command(launcher, {
      args,
      cwd,
      clearEnv: true,
      env: Object.fromEntries(
        Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined),
      ),
      stdin: "null",
    }).output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** The arguments that `fakeDeno` was given. */
export function argumentsOf({ stdout }: Outcome): string[] {
  return [...stdout.matchAll(/^arg:(.*)$/gm)].map(([, value]) => value);
}

/** One environment variable that `fakeDeno` saw, or "unset". */
export function variableOf({ stdout }: Outcome, name: string): string | undefined {
  return stdout.match(new RegExp(`^env:${name}=(.*)$`, "m"))?.[1];
}
