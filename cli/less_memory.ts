/**
 * What a command that does not fit the GPU could be given.
 *
 * @module
 */

/** Advice for the message that something does not fit: what helps this command, and what helps every command. */
export function lessMemory(ofCommand: string): string {
  return `${ofCommand}, --precision mixed, --layers N.`;
}
