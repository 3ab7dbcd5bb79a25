import assert from "node:assert/strict";
import { pollEventLoop } from "../../../kernels/gpu/event_loop.ts";

Deno.test({
  name: "polling the event loop lets a signal in that comes while JavaScript is busy",
  ignore: Deno.build.os === "windows",
  async fn() {
    let heard = false;
    const listener = () => {
      heard = true;
    };
    Deno.addSignalListener("SIGUSR2", listener);
    try {
      for (let i = 0; i < 5; i++) {
        heard = false;
        Deno.kill(Deno.pid, "SIGUSR2");
        let polls = 0;
        // With setImmediate alone it takes some 25 polls.
        for (; !heard && polls < 100; polls++) {
          for (const end = performance.now() + 30; performance.now() < end;);
          await pollEventLoop();
        }
        assert.ok(polls <= 8, `${polls} polls after 30 ms each`);
      }
    } finally {
      Deno.removeSignalListener("SIGUSR2", listener);
    }
  },
});
