/**
 * What a run and the thread of its page say to each other.
 *
 * @module
 */

/** Where the thread is to serve a page, or the folder of the run that it is to show from now on. */
export type PageRequest = { readonly port: number } | { readonly folder: string };

/** Where it is served, or why it can't be, for people. */
export type PageAnswer = { readonly url: string } | { readonly problem: string };
