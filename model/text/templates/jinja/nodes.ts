/**
 * A template's syntax tree. Each node has the line it begins in.
 *
 * @module
 */
import type { Value } from "./values.ts";

/** Arguments of a call, a filter or a test. */
export interface CallArguments {
  positional: Expression[];
  named: { name: string; value: Expression }[];
  /** `*args` and `**kwargs`. */
  spread: Expression | undefined;
  namedSpread: Expression | undefined;
}

/** Operators of two numbers, or of two values for which Python has them. */
export type BinaryOperator = "+" | "-" | "*" | "/" | "//" | "%" | "**";
/** Operators that give true or false. */
export type Comparison = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in";

/** What has a value. */
export type Expression =
  & { line: number }
  & (
    | { kind: "constant"; value: Value }
    | { kind: "name"; name: string }
    | { kind: "list" | "tuple"; items: Expression[] }
    | { kind: "dict"; items: (readonly [Expression, Expression])[] }
    | { kind: "attribute"; object: Expression; name: string }
    | { kind: "item"; object: Expression; key: Expression }
    | {
      kind: "slice";
      object: Expression;
      start: Expression | undefined;
      stop: Expression | undefined;
      step: Expression | undefined;
    }
    | { kind: "call"; callee: Expression; args: CallArguments }
    | { kind: "filter"; name: string; input: Expression | undefined; args: CallArguments }
    | { kind: "test"; name: string; input: Expression; args: CallArguments; negated: boolean }
    | { kind: "not" | "negative" | "positive"; operand: Expression }
    | { kind: "binary"; operator: BinaryOperator; left: Expression; right: Expression }
    | { kind: "and" | "or"; left: Expression; right: Expression }
    | { kind: "concat"; parts: Expression[] }
    | { kind: "compare"; first: Expression; rest: { operator: Comparison; operand: Expression }[] }
    | {
      kind: "if";
      test: Expression;
      then: Expression;
      otherwise: Expression | undefined;
    }
  );

/** What is assigned to. */
export type Target =
  | { kind: "name"; name: string; line: number }
  | { kind: "member"; name: string; member: string; line: number }
  | { kind: "tuple"; items: Target[]; line: number };

/** Parameters of a macro or of a `call` block's body. */
export interface Signature {
  names: string[];
  /** Defaults of the last parameters. */
  defaults: Expression[];
}

/** Statements with variables of their own, and which of those are unset where the body begins. */
export interface Body {
  statements: Statement[];
  /**
   * Names that the body sets. One that `outer` is false for is unset until then, even where the template
   * was given a variable of that name.
   */
  locals: { name: string; outer: boolean }[];
}

/** A function that a template defines, or the body of a `call` block. */
export interface Macro {
  kind: "macro";
  name: string;
  signature: Signature;
  body: Body;
  /** Which of the names `caller`, `kwargs` and `varargs` the body uses. */
  uses: ReadonlySet<string>;
  line: number;
}

/** What writes, or decides what is written. */
export type Statement =
  | { kind: "text"; value: string; line: number }
  | { kind: "output"; value: Expression; line: number }
  | {
    kind: "if";
    branches: { test: Expression; statements: Statement[] }[];
    otherwise: Statement[];
    line: number;
  }
  | {
    kind: "for";
    target: Target;
    iterable: Expression;
    test: Expression | undefined;
    recursive: boolean;
    body: Body;
    otherwise: Body;
    line: number;
  }
  | { kind: "set"; target: Target; value: Expression; line: number }
  /** `filter` is applied to `undefined` in it, which stands for the body. */
  | { kind: "setBlock"; target: Target; filter: Expression | undefined; body: Body; line: number }
  | {
    kind: "with";
    assignments: { target: Target; value: Expression }[];
    body: Body;
    line: number;
  }
  | Macro
  | { kind: "callBlock"; call: Expression; macro: Macro; line: number }
  | { kind: "filterBlock"; filter: Expression; body: Body; line: number }
  | { kind: "generation"; body: Body; line: number }
  | { kind: "scope"; body: Body; line: number }
  | { kind: "block"; name: string; scoped: boolean; body: Body; line: number }
  | { kind: "break" | "continue"; line: number };
