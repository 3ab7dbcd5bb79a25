/**
 * Which variables belong to which part of a template, as Jinja2 decides it before it renders.
 *
 * A loop's body, a macro and the like have variables of their own, which begin with the outer ones' values.
 * A name that a part sets before it reads it, whatever `if` it comes to, is unset until then: parts inside
 * don't see a variable of that name that the template was given.
 *
 * @module
 */
import { fail } from "./errors.ts";
import type { Body, Expression, Macro, Statement, Target } from "./nodes.ts";
import { operandsOf } from "./used_names.ts";

/** Names of the filters and tests that there are. */
export interface Known {
  filters: ReadonlySet<string>;
  tests: ReadonlySet<string>;
}

/** How a name of a part begins: with the outer value, unset, or given by the part itself. */
type Beginning = "outer" | "unset" | "parameter";

/** The names that a part of the template uses. */
class Frame {
  constructor(
    readonly parent: Frame | undefined,
    readonly begins = new Map<string, Beginning>(),
    readonly stores = new Set<string>(),
  ) {}

  has(name: string): boolean {
    return this.begins.has(name) || (this.parent?.has(name) ?? false);
  }

  load(name: string): void {
    if (!this.has(name)) this.begins.set(name, "outer");
  }

  store(name: string): void {
    this.stores.add(name);
    if (!this.begins.has(name)) {
      this.begins.set(name, this.parent?.has(name) ? "outer" : "unset");
    }
  }

  parameter(name: string): void {
    this.stores.add(name);
    this.begins.set(name, "parameter");
  }

  copy(): Frame {
    return new Frame(this.parent, new Map(this.begins), new Set(this.stores));
  }

  /** Takes over what happens in branches, of which only one is run. */
  join(branches: readonly Frame[]): void {
    const stored = new Set(branches.flatMap(({ stores }) => [...stores]));
    for (const name of this.stores) stored.delete(name);
    for (const { begins, stores } of branches) {
      for (const [name, beginning] of begins) this.begins.set(name, beginning);
      for (const name of stores) this.stores.add(name);
    }
    for (const name of stored) this.begins.set(name, "outer");
  }

  locals(): Body["locals"] {
    const names = [...this.stores].filter((name) => this.begins.get(name) !== "parameter");
    return names.map((name) => ({ name, outer: this.begins.get(name) === "outer" }));
  }
}

/** Goes through the statements of one part, and begins new parts inside it. */
class Resolver {
  constructor(readonly frame: Frame, readonly root: Frame, readonly known: Known) {}

  /** @param soft Whether it may never be evaluated: an unknown filter is an error only then. */
  expression(node: Expression, soft: boolean): void {
    if (node.kind === "name") this.frame.load(node.name);
    if (!soft && node.kind === "filter" && !this.known.filters.has(node.name)) {
      fail(`there is no filter '${node.name}'`, node.line);
    }
    if (!soft && node.kind === "test" && !this.known.tests.has(node.name)) {
      fail(`there is no test '${node.name}'`, node.line);
    }
    for (const operand of operandsOf(node)) this.expression(operand, soft || node.kind === "if");
  }

  target(target: Target, parameter = false): void {
    if (target.kind === "tuple") target.items.forEach((item) => this.target(item, parameter));
    else if (target.kind === "member") this.frame.load(target.name);
    else if (parameter) this.frame.parameter(target.name);
    else this.frame.store(target.name);
  }

  /** A new part, whose parent's names are all known. */
  part(body: Body, prepare: (resolver: Resolver) => void = () => {}, parent = this.frame): void {
    const inner = new Resolver(new Frame(parent), this.root, this.known);
    prepare(inner);
    inner.statements(body.statements, false);
    inner.parts(body.statements);
    body.locals = inner.frame.locals();
  }

  statements(statements: readonly Statement[], soft: boolean): void {
    for (const statement of statements) this.statement(statement, soft);
  }

  /** The names that a statement uses in this part. */
  statement(node: Statement, soft: boolean): void {
    switch (node.kind) {
      case "output":
        this.expression(node.value, soft);
        break;
      case "if":
        this.#if(node.branches, node.otherwise);
        break;
      case "for":
        this.expression(node.iterable, soft);
        break;
      case "set":
        this.expression(node.value, soft);
        this.target(node.target);
        break;
      case "setBlock":
        this.target(node.target);
        break;
      case "with":
        for (const { value } of node.assignments) this.expression(value, soft);
        break;
      case "macro":
        this.frame.store(node.name);
        break;
      case "callBlock":
        this.expression(node.call, soft);
        break;
      case "filterBlock":
        this.expression(node.filter, soft);
        break;
      default:
    }
  }

  #if(
    branches: readonly { test: Expression; statements: Statement[] }[],
    otherwise: readonly Statement[],
  ): void {
    const [first, ...others] = branches;
    this.expression(first.test, true);
    const branch = (run: (resolver: Resolver) => void): Frame => {
      const resolver = new Resolver(this.frame.copy(), this.root, this.known);
      run(resolver);
      return resolver.frame;
    };
    this.frame.join([
      branch((inner) => inner.statements(first.statements, true)),
      branch((inner) => others.forEach((other) => inner.#if([other], []))),
      branch((inner) => inner.statements(otherwise, true)),
    ]);
  }

  /** The parts inside, once all names of this one are known. */
  parts(statements: readonly Statement[]): void {
    for (const node of statements) {
      switch (node.kind) {
        case "if":
          for (const branch of node.branches) this.parts(branch.statements);
          this.parts(node.otherwise);
          break;
        case "for":
          this.part(node.body, (inner) => {
            inner.frame.parameter("loop");
            inner.target(node.target, true);
          });
          this.part(node.otherwise);
          if (node.test) {
            const { test } = node;
            this.part({ statements: [], locals: [] }, (inner) => {
              inner.target(node.target, true);
              inner.expression(test, false);
            });
          }
          break;
        case "with":
          this.part(node.body, (inner) => {
            for (const { target } of node.assignments) inner.target(target, true);
          });
          break;
        case "macro":
          this.#macro(node);
          break;
        case "callBlock":
          this.#macro(node.macro);
          break;
        case "block":
          this.part(node.body, () => {}, node.scoped ? this.frame : this.root);
          break;
        case "setBlock":
        case "filterBlock":
        case "generation":
        case "scope":
          this.part(node.body, (inner) => {
            if (node.kind === "filterBlock") inner.expression(node.filter, false);
            else if (node.kind === "setBlock" && node.filter) inner.expression(node.filter, false);
          });
          break;
        default:
      }
    }
  }

  #macro({ signature, body, uses }: Macro): void {
    this.part(body, (inner) => {
      for (const name of [...uses, ...signature.names]) inner.frame.parameter(name);
      for (const value of signature.defaults) inner.expression(value, false);
    });
  }
}

/**
 * Fills in the names of a template's parts.
 *
 * @throws TemplateError where it needs a filter or test that there is none of.
 */
export function resolveNames(template: Body, known: Known): void {
  const root = new Frame(undefined);
  const resolver = new Resolver(root, root, known);
  resolver.statements(template.statements, false);
  resolver.parts(template.statements);
  template.locals = root.locals();
}
