/**
 * What a user may be told: one sentence that names the file, field or flag and what was expected.
 *
 * @module
 */

/** A mistake in the input, reported as one sentence (or a short table) without a stack trace. */
export class UserError extends Error {
  override name = "UserError";
}

/** A mistake in what was asked for: a command line, a configuration, an option, the name of a setting. */
export class UsageError extends UserError {
  override name = "UsageError";
}
