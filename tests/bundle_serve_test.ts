/** What a bundle unpacks to serves a model, without network, from another folder. */
import assert from "node:assert/strict";
import { join } from "node:path";
import OpenAI from "openai";
import { fillFolder } from "../scripts/bundle/contents.ts";
import { ROOT } from "../scripts/compile.ts";
import { TemporaryFolder } from "./cli/cli.ts";
import { gpuTest } from "./kernels/harness.ts";
import { addressOf, end } from "./watch/served.ts";

/** No registry is there. */
const OFFLINE = { NPM_CONFIG_REGISTRY: "http://127.0.0.1:9", JSR_URL: "http://127.0.0.1:9" };

gpuTest(
  "bundle: its programs serve, keep answers to a schema, and chat with what is served",
  async () => {
    if (Deno.build.os === "windows") return;
    using temporary = new TemporaryFolder();
    const folder = join(temporary.path, "unpacked"), home = join(temporary.path, "home");
    for (const path of [folder, home]) Deno.mkdirSync(path);
    fillFolder(ROOT.replace(/\/$/, ""), folder, undefined);
    const start = (args: string[], stdin: "null" | "piped" = "null") =>
      new Deno.Command(join(folder, "lorikeet"), {
        args,
        cwd: home,
        clearEnv: true,
        env: { ...OFFLINE, HOME: home, PATH: "/usr/bin:/bin" },
        stdin,
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    const command = start(["serve", "--model", "builtin", "--port", "0", "--gpu", "deno"]);
    try {
      const { href, origin } = await addressOf(command);
      const client = new OpenAI({ baseURL: href, apiKey: "none", maxRetries: 0 });
      const schema = { type: "object", properties: { n: { enum: [1, 2] } }, required: ["n"] };
      const { choices: [{ message }] } = await client.chat.completions.create({
        model: "builtin",
        messages: [{ role: "user", content: "Hi" }],
        response_format: { type: "json_schema", json_schema: { name: "n", schema } },
      });
      assert.match(message.content ?? "", /^\{"n": [12]\}$/);
      assert.equal((await (await fetch(new URL("/openapi.json", origin))).json()).openapi, "3.1.0");
      const chat = start(["chat", "--server", origin, "--max-tokens", "4"], "piped");
      const writer = chat.stdin.getWriter();
      await writer.write(new TextEncoder().encode("Hi\n"));
      await writer.close();
      const { code, stdout, stderr } = await chat.output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.match(new TextDecoder().decode(stdout), /\S\n$/);
    } finally {
      await end(command);
    }
  },
);
