/** Requests to stop as the run's own thread hears them; tests/cli/cli_stop_test.ts sends real signals. */
import assert from "node:assert/strict";
import { StopRequest } from "../../train/stop_request.ts";

Deno.test({
  name: "a signal that came before the other thread listened counts when this one hears it",
  // The other thread listens as long as the program runs.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const { addSignalListener } = Deno;
    const listeners = new Map<string, () => void>();
    Deno.addSignalListener = (signal, listener) => void listeners.set(signal, listener);
    const stop = new StopRequest();
    try {
      await stop.listen();
    } finally {
      Deno.addSignalListener = addSignalListener;
    }
    assert.equal(stop.requested, false);
    listeners.get("SIGTERM")?.();
    assert.equal(stop.requested, true);
  },
});
