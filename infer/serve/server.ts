/**
 * A server without its engine: tokenizer, template and socket. Sequences go to whom `post` tells of them.
 *
 * @module
 */
import { serveSocket } from "../../http/socket.ts";
import { UserError } from "../../kernels/errors.ts";
import { openModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { type ChatEncoder, chatEncoder } from "../../model/text/templates/chat.ts";
import type { TemplateInputs } from "../../model/text/templates/chat_rendering.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import { templateOf } from "../../model/text/templates/template_names.ts";
import { stopTokens } from "../../model/text/tokenizer/stop_tokens.ts";
import { templateInputs } from "../template_inputs.ts";
import type { NamedTemplate } from "../../model/text/templates/template_names.ts";
import { ApiError } from "./api_error.ts";
import { COUNTED_PATHS, serveApp } from "./app.ts";
import { Dispatcher } from "./dispatcher.ts";
import { vocabularyOf } from "./grammar/vocabulary.ts";
import type { Serving, TemplateGiven } from "./serving.ts";
import { Metrics } from "./metrics.ts";
import type { Piece, ServeSettings, ToEngine } from "./messages.ts";

/** Connections at a time. */
const MOST_CONNECTIONS = 1024;
/** Milliseconds that a connection may take to ask, and a reader to take more of its answer. */
const ASK_PATIENCE = 30_000, READ_PATIENCE = 60_000;

/** A server that listens. */
export interface ModelServer {
  readonly port: number;
  /** To be called when the engine takes sequences. @param gpuBytes What it has allocated on the GPU. */
  ready(gpuBytes: number): void;
  /** Takes what the engine made. */
  receive(pieces: readonly Piece[]): void;
  /** Takes nothing more; `post` is told `finished` when the running answers have ended. */
  finish(): void;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** Sets of tools and variables whose templates are kept. */
const MOST_SETS = 16;

/**
 * What makes encoders of conversations, each with the tools and variables of a request. What is wrong with the template is
 * said now.
 */
async function chatEncoders(
  { kind }: NamedTemplate,
  tokenizer: Tokenizer,
  inputs: TemplateInputs,
): Promise<Serving["chatEncoder"]> {
  const plain = await chatEncoder(kind, tokenizer, inputs);
  const kept = new Map<string, ChatEncoder>();
  return async (given = {}) => {
    const [param] = Object.entries(given).flatMap(([name, json]) =>
      json === undefined ? [] : [name]
    );
    if (param === undefined) return plain;
    if (kind !== "chat") {
      throw new ApiError(
        400,
        `${param}: template ${kind} knows none; expected a model with a chat template of its own`,
        { param, code: "unsupported_parameter" },
      );
    }
    const key = JSON.stringify(given);
    const encoder = kept.get(key) ?? await givenEncoder(tokenizer, inputs, given);
    // What was used last comes last.
    kept.delete(key);
    kept.set(key, encoder);
    const [oldest] = kept.keys();
    if (kept.size > MOST_SETS) kept.delete(oldest);
    return encoder;
  };
}

/** The encoder of a model's own template that a request gives something. @throws {ApiError} where the template can't take it. */
async function givenEncoder(
  tokenizer: Tokenizer,
  inputs: TemplateInputs,
  { tools, chat_template_kwargs: asked }: TemplateGiven,
): Promise<ChatEncoder> {
  const param = "chat_template_kwargs";
  try {
    return await chatEncoder("chat", tokenizer, {
      ...inputs,
      tools: tools === undefined ? undefined : { json: tools, name: "tools" },
      asked: asked === undefined ? undefined : { json: asked, name: param },
    });
  } catch (error) {
    if (!(error instanceof UserError) || asked === undefined) throw error;
    throw new ApiError(400, error.message, { param, code: "invalid_value" });
  }
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
  const dispatcher = new Dispatcher(post, { sequences, queue, timeout }, () => {
    socket.finish();
    // What is on its way to a reader arrives there.
    const late = Promise.withResolvers<void>(), timer = setTimeout(late.resolve, READ_PATIENCE);
    void Promise.race([socket.finished, late.promise]).then(() => {
      clearTimeout(timer);
      sent();
    });
  }, () => vocabularyOf(tokenizer, { size: source.config.vocab_size, stop }));
  const metrics = new Metrics(COUNTED_PATHS);
  const app = serveApp({
    names,
    created: Math.floor(Date.now() / 1000),
    tokenizer,
    chatEncoder: await chatEncoders(template, tokenizer, inputs),
    stop,
    vocab: source.config.vocab_size,
    context,
    dispatcher,
    metrics,
  }, {
    host,
    everywhere: host === "0.0.0.0" || host === "::",
    hostname: Deno.hostname(),
    keys,
    origins: settings.origins,
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
    ready: (gpuBytes) => {
      metrics.gpuBytes = gpuBytes;
      dispatcher.open();
    },
    receive: (pieces) => dispatcher.receive(pieces),
    finish: () => dispatcher.finish(),
    close: () => socket.close(),
  };
}
