/**
 * A conversation with a model that a server has.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { noteLine } from "../../kernels/terminal.ts";
import type { Message } from "../../model/text/templates/chat.ts";
import { openLineInput } from "../line_input.ts";
import { readApiKeys } from "../../model/files/api_keys.ts";
import { ApiClient } from "./api_client.ts";
import { ServerRefusal } from "./api_refusal.ts";
import { converse, noteForgotten, type Partner } from "./converse.ts";
import type { ServerChatFlags } from "./flags.ts";

/** The model to ask, by its name or the first. @throws {UserError} where the server has none of this name. */
async function modelOf(client: ApiClient, asked: string | undefined): Promise<string> {
  const names = await client.models();
  const model = asked ?? names?.[0];
  if (model === undefined) {
    throw new UserError(
      `${client.url.base} does not tell its models; expected --model with a name`,
    );
  }
  if (names === undefined || names.includes(model)) return model;
  throw new UserError(
    `${client.url.base} has no model "${model}"; expected ${
      names.map((name) => `"${name}"`).join(" or ")
    }`,
  );
}

/** A conversation whose answers a server makes. */
class ServerPartner implements Partner {
  #turns: Message[] = [];

  constructor(
    readonly client: ApiClient,
    readonly model: string,
    readonly flags: Pick<ServerChatFlags, "system" | "sampling">,
  ) {}

  get messages(): readonly Message[] {
    const { system } = this.flags;
    return [
      ...(system === undefined ? [] : [{ role: "system" as const, content: system }]),
      ...this.#turns,
    ];
  }

  get about(): Record<string, unknown> {
    return { model: this.model, server: this.client.url.base };
  }

  reset(): void {
    this.#turns = [];
  }

  async reply(content: string, print: (text: string) => void, signal: AbortSignal): Promise<void> {
    const before = this.#turns, question: Message = { role: "user", content };
    for (let forgotten = 0;; forgotten++) {
      this.#turns = [...before.slice(2 * forgotten), question];
      const mayForget = 2 * forgotten < before.length;
      let text = "";
      try {
        for await (const piece of this.#answer(signal)) {
          if (text === "") noteForgotten(forgotten);
          text += piece;
          print(piece);
        }
      } catch (error) {
        if (text === "") this.#turns = before;
        if (mayForget && error instanceof ServerRefusal && error.isTooLong) continue;
        if (text !== "") {
          this.#keep(text);
          print("\n");
        }
        throw error;
      }
      return this.#keep(text);
    }
  }

  #answer(signal: AbortSignal): AsyncGenerator<string> {
    const { client, model, messages, flags: { sampling } } = this;
    return client.answer({ model, messages, sampling }, signal);
  }

  #keep(answer: string): void {
    this.#turns.push({ role: "assistant", content: answer.trim() });
  }
}

/** Talks with a server. */
export async function serverChat(flags: ServerChatFlags): Promise<void> {
  const { server, model, api_key_file } = flags;
  const [key] = api_key_file === undefined ? [] : readApiKeys(api_key_file);
  const client = new ApiClient(server, key);
  const name = await modelOf(client, model);
  noteLine(`${server.base}, model ${name}. /help lists the commands.`);
  await converse(openLineInput(), new ServerPartner(client, name, flags));
}
