/**
 * The post-processor of a tokenizer whose files have none: the named tokens around a text.
 *
 * @module
 */
import { unknownId } from "./models.ts";
import type { Pipeline } from "./pipeline.ts";

/** The post-processor that puts BOS before a text and EOS after it. */
export function templateProcessing(
  pipeline: Pipeline,
  bos: string | undefined,
  eos: string | undefined,
): Record<string, unknown> {
  const tokens = [...new Set([bos, eos].filter((token) => token !== undefined))];
  const part = (token: string | undefined, type_id: number) =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id } }];
  const text = (id: string, type_id: number) => [
    ...part(bos, type_id),
    { Sequence: { id, type_id } },
    ...part(eos, type_id),
  ];
  return {
    type: "TemplateProcessing",
    single: text("A", 0),
    pair: [...text("A", 0), ...text("B", 1)],
    special_tokens: Object.fromEntries(tokens.map((token) => {
      const id = pipeline.added.id(token) ?? unknownId(pipeline.parts.model);
      return [token, { id: token, ids: [id], tokens: [token] }];
    })),
  };
}
