/**
 * Jinja2's statements, from a template's text to its tree.
 *
 * Beyond Jinja2 itself: `break` and `continue`, and the tag `generation` that transformers adds. What needs
 * other templates (`include`, `import`, `extends`) is refused.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { ExpressionParser } from "./expressions.ts";
import { type LexerSettings, tokenize } from "./lexer.ts";
import type { Body, Expression, Macro, Signature, Statement, Target } from "./nodes.ts";
import { resolveNames } from "./scopes.ts";
import { usedNames } from "./used_names.ts";

const OTHER_TEMPLATES = ["include", "import", "from", "extends"];

const SPECIAL_NAMES = ["caller", "kwargs", "varargs"];

/** A body whose names are not resolved yet. */
const body = (statements: Statement[]): Body => ({ statements, locals: [] });

class TemplateParser extends ExpressionParser {
  /** Loops that the current statement is in, of the same function. */
  #loops = 0;
  /** Loops that the current statement is in at all. */
  #insideFor = 0;
  readonly #blocks = new Set<string>();

  /** Statements up to one of the tags `end`, or up to the end of the template. */
  #statements(...end: readonly string[]): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      const token = this.current, { line } = token;
      if (token.type === "data") {
        this.advance();
        statements.push({ kind: "text", value: token.value, line });
      } else if (token.type === "{{") {
        this.advance();
        statements.push({ kind: "output", value: this.tuple(), line });
        this.expect("}}");
      } else if (token.type === "{%") {
        this.advance();
        if (this.isName(...end)) return statements;
        statements.push(...this.nested(() => this.#statement(end)));
        this.expect("%}");
      } else if (end.length === 0) return statements;
      else fail(`the template ends where '${end.join("' or '")}' is expected`, line);
    }
  }

  /** A block's statements; its end tag is taken, and the tag that it was is given. */
  #block(...end: readonly string[]): { statements: Statement[]; tag: string } {
    this.skipOperator(":");
    this.expect("%}");
    const statements = this.#statements(...end);
    return { statements, tag: this.expectName() };
  }

  /** As {@linkcode #block}, of a function of its own, which can't leave a loop around it. */
  #function(end: string): Statement[] {
    const loops = this.#loops;
    this.#loops = 0;
    const { statements } = this.#block(end);
    this.#loops = loops;
    return statements;
  }

  #statement(expected: readonly string[]): Statement[] {
    const { line } = this.current;
    const tag = this.expectName();
    switch (tag) {
      case "print":
        return this.#print(line);
      case "if":
        return [this.#if(line)];
      case "for":
        return [this.#for(line)];
      case "set":
        return [this.#set(line)];
      case "with":
        return [this.#with(line)];
      case "macro":
        return [this.#macro(line)];
      case "call":
        return [this.#callBlock(line)];
      case "filter": {
        const filter = this.filter(undefined, { first: true });
        return [{ kind: "filterBlock", filter, body: body(this.#inner("endfilter")), line }];
      }
      case "generation":
        return [{ kind: "generation", body: body(this.#function("endgeneration")), line }];
      case "autoescape":
        this.#noEscaping(line);
        return [{ kind: "scope", body: body(this.#inner("endautoescape")), line }];
      case "block":
        return [this.#namedBlock(line)];
      case "break":
      case "continue":
        if (this.#loops === 0) fail(`'${tag}' outside a loop`, line);
        return [{ kind: tag, line }];
      default:
    }
    if (OTHER_TEMPLATES.includes(tag)) {
      fail(`'${tag}' needs another template, expected one that stands alone`, line);
    }
    const looking = expected.length > 0 ? `; '${expected.join("' or '")}' is looked for` : "";
    fail(`unknown tag '${tag}'${looking}`, line);
  }

  #inner(end: string): Statement[] {
    return this.#block(end).statements;
  }

  /** A block that other templates could put their own in place of: here it is as it stands. */
  #namedBlock(line: number): Statement {
    const name = this.expectName();
    if (this.#blocks.has(name)) fail(`block '${name}' is there twice`, line);
    this.#blocks.add(name);
    const scoped = this.skipName("scoped");
    if (this.isName("required")) fail(`block '${name}' must come from another template`, line);
    const statements = this.#function("endblock");
    this.skipName(name);
    return { kind: "block", name, scoped, body: body(statements), line };
  }

  #noEscaping(line: number): void {
    const value = this.expression();
    if (value.kind !== "constant" || value.value !== false) {
      fail("'autoescape' is for HTML, expected 'autoescape false'", line);
    }
  }

  #print(line: number): Statement[] {
    const outputs: Statement[] = [];
    while (this.current.type !== "%}") {
      if (outputs.length > 0) this.expectOperator(",");
      outputs.push({ kind: "output", value: this.expression(), line });
    }
    return outputs;
  }

  #if(line: number): Statement {
    const branches: { test: Expression; statements: Statement[] }[] = [];
    for (;;) {
      const test = this.tuple({ conditional: false });
      const { statements, tag } = this.#block("elif", "else", "endif");
      branches.push({ test, statements });
      if (tag === "elif") continue;
      const otherwise = tag === "else" ? this.#block("endif").statements : [];
      return { kind: "if", branches, otherwise, line };
    }
  }

  #for(line: number): Statement {
    const target = this.target({ end: ["in"] });
    refuseLoop(target);
    this.#insideFor++;
    if (!this.skipName("in")) this.unexpected("'in'");
    const iterable = this.tuple({ conditional: false, end: ["recursive"] });
    const test = this.skipName("if") ? this.expression() : undefined;
    const recursive = this.skipName("recursive");
    const outer = this.#loops;
    this.#loops = recursive ? 1 : outer + 1;
    const { statements, tag } = this.#block("endfor", "else");
    this.#loops = recursive ? 0 : outer;
    const otherwise = tag === "else" ? this.#block("endfor").statements : [];
    this.#loops = outer;
    this.#insideFor--;
    return {
      kind: "for",
      target,
      iterable,
      test,
      recursive,
      body: body(statements),
      otherwise: body(otherwise),
      line,
    };
  }

  #set(line: number): Statement {
    const target = this.target({ members: true });
    if (this.#insideFor > 0) refuseLoop(target);
    if (this.skipOperator("=")) return { kind: "set", target, value: this.tuple(), line };
    const filter = this.isOperator("|") ? this.filter(undefined) : undefined;
    return { kind: "setBlock", target, filter, body: body(this.#inner("endset")), line };
  }

  #with(line: number): Statement {
    const assignments: { target: Target; value: Expression }[] = [];
    while (this.current.type !== "%}") {
      if (assignments.length > 0) this.expectOperator(",");
      const target = this.target();
      this.expectOperator("=");
      assignments.push({ target, value: this.expression() });
    }
    return { kind: "with", assignments, body: body(this.#inner("endwith")), line };
  }

  #signature(): Signature {
    const signature: Signature = { names: [], defaults: [] };
    this.expectOperator("(");
    while (!this.isOperator(")")) {
      if (signature.names.length > 0) this.expectOperator(",");
      const { line } = this.current;
      const name = this.expectName();
      if (signature.names.includes(name)) fail(`parameter '${name}' is there twice`, line);
      signature.names.push(name);
      if (this.skipOperator("=")) signature.defaults.push(this.expression());
      else if (signature.defaults.length > 0) {
        fail(`parameter '${name}' without a default follows one with a default`, line);
      }
    }
    this.expectOperator(")");
    return signature;
  }

  /** A function whose body ends with the tag `end`. */
  #makeMacro(name: string, signature: Signature, end: string, line: number): Macro {
    const statements = this.#function(end);
    const uses = usedNames(statements, SPECIAL_NAMES);
    return { kind: "macro", name, signature, body: body(statements), uses, line };
  }

  #macro(line: number): Statement {
    const name = this.expectName();
    return this.#makeMacro(name, this.#signature(), "endmacro", line);
  }

  #callBlock(line: number): Statement {
    const signature = this.isOperator("(") ? this.#signature() : { names: [], defaults: [] };
    const call = this.expression();
    if (call.kind !== "call") fail("expected a call after 'call'", line);
    return {
      kind: "callBlock",
      call,
      macro: this.#makeMacro("caller", signature, "endcall", line),
      line,
    };
  }

  parse(): Statement[] {
    return this.#statements();
  }
}

/** @throws TemplateError where the variable that a loop has of its own is to be assigned. */
function refuseLoop(target: Target): void {
  if (target.kind === "tuple") target.items.forEach(refuseLoop);
  else if (target.kind === "name" && target.name === "loop") {
    fail("'loop' is a loop's own variable and can't be set in one", target.line);
  }
}

/**
 * The tree of a template.
 *
 * @param known Names of the filters and tests that there are.
 * @throws TemplateError with the line, where the template is no Jinja.
 */
export function parseTemplate(
  source: string,
  known: { filters: ReadonlySet<string>; tests: ReadonlySet<string> },
  settings: LexerSettings,
): Body {
  const template = body(new TemplateParser(tokenize(source, settings)).parse());
  resolveNames(template, known);
  return template;
}
