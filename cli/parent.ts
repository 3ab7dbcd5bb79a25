/**
 * A run that a series has started ends with it: killed, a series would otherwise leave a run behind that holds
 * the GPU's memory while the next series measures how much there is.
 *
 * @module
 */
import { environment } from "../kernels/gpu/providers/environment.ts";

/** The environment variable by which a series tells its runs its process. */
export const PARENT = "LORIKEET_PARENT";
/** Milliseconds between looks at whether it is still there. */
const INTERVAL = 500;

/** Ends this process once that which {@linkcode PARENT} names is no longer its parent. */
export function endWithParent(): void {
  const parent = environment(PARENT);
  if (parent === undefined) return;
  const look = () => {
    if (`${Deno.ppid}` !== parent) Deno.exit(1);
  };
  look();
  Deno.unrefTimer(setInterval(look, INTERVAL));
}
