/** Pages that commands serve. */
import assert from "node:assert/strict";

/** The address that a command prints, token and all. Its further output is read, so that it has room for it. */
export async function addressOf(command: Deno.ChildProcess): Promise<URL> {
  let text = "", address: string | undefined;
  for await (const bytes of command.stdout.values({ preventCancel: true })) {
    text += new TextDecoder().decode(bytes);
    address = /http:\S+(?=\n)/.exec(text)?.[0];
    if (address !== undefined) break;
  }
  command.stdout.pipeTo(new WritableStream()).catch(() => {});
  return new URL(address ?? assert.fail(`no address: ${text}`));
}

/** Ends a command as Ctrl-C does. */
export async function end(command: Deno.ChildProcess): Promise<void> {
  command.kill("SIGINT");
  await command.stderr.cancel();
  await command.status;
}
