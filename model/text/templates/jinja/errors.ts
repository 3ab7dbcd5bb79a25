/**
 * What goes wrong in a template.
 *
 * @module
 */

/** A template that is wrong, or does something that Jinja2 refuses. */
export class TemplateError extends Error {
  override name = "TemplateError";
  /** Line of the template, from 1, where it is known. */
  line: number | undefined;
  /** Whether the template itself refused, by `raise_exception`. */
  readonly raised: boolean;

  constructor(message: string, options: { line?: number; raised?: boolean } = {}) {
    super(message);
    this.line = options.line;
    this.raised = options.raised ?? false;
  }
}

/** @throws TemplateError */
export function fail(message: string, line?: number): never {
  throw new TemplateError(message, { line });
}
