/**
 * The launcher, by which commands start others.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

const NAME = Deno.build.os === "windows" ? "lorikeet.cmd" : "lorikeet";

/** The launcher's path. */
export const LORIKEET: string = fileURLToPath(new URL(`../${NAME}`, import.meta.url));
