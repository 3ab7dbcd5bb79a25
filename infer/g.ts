import { runMain } from "../cli/run_main.ts";
import { endWithParent } from "../cli/parent.ts";
import { generate } from "./generate.ts";
if (import.meta.main) {
  endWithParent();
  await runMain(([_, ...args]) => generate(args));
}
