import assert from "node:assert/strict";
import { eventTurn } from "../../../kernels/gpu/event_turn.ts";

Deno.test({
  name: "event turns let a signal in that comes while JavaScript is busy",
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
        let turns = 0;
        // With setImmediate alone it takes some 25 turns.
        for (; !heard && turns < 100; turns++) {
          for (const end = performance.now() + 30; performance.now() < end;);
          await eventTurn();
        }
        assert.ok(turns <= 8, `${turns} turns after 30 ms each`);
      }
    } finally {
      Deno.removeSignalListener("SIGUSR2", listener);
    }
  },
});
