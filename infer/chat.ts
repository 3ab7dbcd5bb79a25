/**
 * `lorikeet chat`: a conversation in the terminal, with a model that is loaded here or with a server.
 *
 * @module
 */
import { runMain } from "../cli/run_main.ts";
import { parseChatArguments } from "./chat/flags.ts";

/** Runs the command. */
export async function chat(args: string[]): Promise<void> {
  const flags = parseChatArguments(args);
  // Each does without what the other needs.
  if ("server" in flags) return await (await import("./chat/server_chat.ts")).serverChat(flags);
  await (await import("./chat/local_chat.ts")).localChat(flags.local);
}

if (import.meta.main) await runMain(chat);
