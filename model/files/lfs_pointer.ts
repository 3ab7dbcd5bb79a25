/**
 * Pointers that Git LFS leaves in place of large files which were not fetched.
 *
 * @module
 */

/** What every pointer begins with (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md). */
const FIRST_LINE = "version https://git-lfs.github.com/spec/v1";

/** A sentence's end for a file that is one: what it is and what helps. */
export const LFS_REMEDY =
  'is a Git LFS pointer, not the file itself; fetch it with "git lfs pull" in its repository';

/** Whether a file with these first bytes is a pointer. */
export function isLfsPointer(head: Uint8Array): boolean {
  if (head.length < FIRST_LINE.length) return false;
  return new TextDecoder().decode(head.subarray(0, FIRST_LINE.length)) === FIRST_LINE;
}
