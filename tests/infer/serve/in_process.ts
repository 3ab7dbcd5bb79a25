/** A server in the tests' own process, whose engine is the test itself. */
import { type ModelServer, serveModel } from "../../../infer/serve/server.ts";
import type { Piece, ServeSettings, ToEngine } from "../../../infer/serve/messages.ts";
import { askRaw, type RawAnswer, type RawRequest } from "../../raw_http.ts";

/** What the engine is asked to admit. */
export type Admission = ToEngine & { kind: "admit" };

/** A server, and what a test does in its engine's place. */
export interface TestServer {
  readonly server: ModelServer;
  readonly port: number;
  /** All that the engine was told. */
  readonly told: readonly ToEngine[];
  /** The next sequence to admit, once it is asked for. */
  admitted(): Promise<Admission>;
  /** Waits until the engine was told something of a kind. */
  until(kind: ToEngine["kind"]): Promise<void>;
  give(piece: Piece): void;
  /** Asks as a program on this machine does. */
  ask(request: RawRequest): Promise<RawAnswer>;
  /** Posts JSON. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<RawAnswer>;
}

const SETTINGS: ServeSettings = {
  host: "127.0.0.1",
  port: 0,
  keys: [],
  origins: [],
  model: "builtin",
  names: ["builtin"],
  add_bos: "auto",
  template: "auto",
  sequences: 2,
  context: 128,
  queue: 2,
  timeout: 60,
};

/** A request of a text, with what is given. */
export const text = (fields: Record<string, unknown> = {}): Record<string, unknown> => ({
  model: "builtin",
  prompt: "Daisy",
  ...fields,
});

/** A request of a conversation, with what is given. */
export const chat = (fields: Record<string, unknown> = {}): Record<string, unknown> => ({
  model: "builtin",
  messages: [{ role: "user", content: "Who is afraid of rain?" }],
  ...fields,
});

/** Runs a test with a server whose model is loaded. */
export async function withServer(
  settings: Partial<ServeSettings>,
  body: (server: TestServer) => Promise<void>,
): Promise<void> {
  const told: ToEngine[] = [], taken = new Set<ToEngine>();
  let heard = Promise.withResolvers<void>();
  const server = await serveModel({ ...SETTINGS, ...settings }, (message) => {
    told.push(message);
    heard.resolve();
    heard = Promise.withResolvers();
  });
  const find = async <T extends ToEngine>(is: (message: ToEngine) => message is T) => {
    for (;;) {
      const found = told.find((message): message is T => is(message) && !taken.has(message));
      if (found !== undefined) {
        taken.add(found);
        return found;
      }
      await heard.promise;
    }
  };
  const { port } = server, Host = `127.0.0.1:${port}`;
  const ask = (request: RawRequest) =>
    askRaw(port, { ...request, headers: { Host, ...request.headers } });
  server.ready(0);
  try {
    await body({
      server,
      port,
      told,
      admitted: () => find((message): message is Admission => message.kind === "admit"),
      until: async (kind) => {
        await find((message): message is ToEngine => message.kind === kind);
      },
      give: (piece) => server.receive([piece]),
      ask,
      post: (path, content, headers = {}) => {
        const json = typeof content === "string" ? content : JSON.stringify(content);
        const length = `${new TextEncoder().encode(json).length}`;
        return ask({
          method: "POST",
          path,
          body: json,
          headers: { "Content-Type": "application/json", "Content-Length": length, ...headers },
        });
      },
    });
  } finally {
    await server.close();
  }
}

/** Registers a test with a server whose model is loaded. */
export function serverTest(
  name: string,
  settings: Partial<ServeSettings>,
  body: (server: TestServer) => Promise<void>,
): void {
  Deno.test(`serve: ${name}`, () => withServer(settings, body));
}
