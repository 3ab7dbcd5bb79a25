/**
 * A server without its engine: tokenizer, template and socket. Sequences go to whom `post` tells of them.
 *
 * @module
 */
import { serveSocket } from "../../http/socket.ts";
import { openModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { chatEncoder } from "../../model/text/templates/chat.ts";
import { templateOf } from "../../model/text/templates/template_names.ts";
import { stopTokens } from "../../model/text/tokenizer/stop_tokens.ts";
import { templateInputs } from "../template_inputs.ts";
import { COUNTED_PATHS, serveApp } from "./app.ts";
import { Dispatcher } from "./dispatcher.ts";
import { vocabularyOf } from "./grammar/vocabulary.ts";
import { Metrics } from "./metrics.ts";
import type { Piece, ServeSettings, ToEngine } from "./messages.ts";

/** Connections at a time. */
const MOST_CONNECTIONS = 1024;
/** Milliseconds that a connection may take to ask, and a reader to take more of its answer. */
const ASK_PATIENCE = 30_000, READ_PATIENCE = 60_000;

/** A server that listens. */
export interface ModelServer {
  readonly port: number;
  /** To be called when the engine takes sequences. */
  ready(): void;
  /** Takes what the engine made. */
  receive(pieces: readonly Piece[]): void;
  /** Takes nothing more; `post` is told `finished` when the running answers have ended. */
  finish(): void;
  /** Ends all connections. */
  close(): Promise<void>;
}

/**
 * Opens a model's tokenizer and template, and listens.
 *
 * @throws {UserError} where one of them can't be had.
 */
export async function serveModel(
  settings: ServeSettings,
  post: (message: ToEngine) => void,
): Promise<ModelServer> {
  const { names, host, port, sequences, queue, context, timeout, keys } = settings;
  const { source, tokenizer, tokenizerPath } = await openModelWithTokenizer(settings);
  source.weights?.close();
  const template = templateOf(settings.template, tokenizerPath);
  const { template_kwargs } = settings;
  const inputs = templateInputs({ tools: undefined, template_kwargs }, tokenizerPath, template);
  const stop = stopTokens(source.config, tokenizer, source.folder);
  const sent = () => post({ kind: "finished" });
  const dispatcher = new Dispatcher(post, { sequences, queue }, () => {
    socket.finish();
    // What is on its way to a reader arrives there.
    void Promise.race([socket.finished, new Promise((end) => setTimeout(end, READ_PATIENCE))])
      .then(sent);
  }, () => vocabularyOf(tokenizer, { size: source.config.vocab_size, stop }));
  const app = serveApp({
    names,
    created: Math.floor(Date.now() / 1000),
    tokenizer,
    encodeChat: await chatEncoder(template.kind, tokenizer, inputs),
    stop,
    vocab: source.config.vocab_size,
    context,
    timeout,
    dispatcher,
    metrics: new Metrics(COUNTED_PATHS),
  }, {
    host,
    everywhere: host === "0.0.0.0" || host === "::",
    hostname: Deno.hostname(),
    keys,
  });
  const socket = await serveSocket((request, from) => app.fetch(request, from), {
    host,
    port,
    mostConnections: MOST_CONNECTIONS,
    askPatience: ASK_PATIENCE,
    readPatience: READ_PATIENCE,
  });
  return {
    port: socket.port,
    ready: () => dispatcher.open(),
    receive: (pieces) => dispatcher.receive(pieces),
    finish: () => dispatcher.finish(),
    close: () => socket.close(),
  };
}
