/** Exit codes, and that the documentation has all of them. */
import assert from "node:assert/strict";
import { EXIT, ExitError, SIGNAL_EXIT } from "../../cli/exit_codes.ts";
import { statusOf } from "../../cli/run_main.ts";
import { UsageError, UserError } from "../../kernels/errors.ts";
import { tablesOf } from "../documents.ts";

Deno.test("exit codes: the documentation's table has them, with the signals' names", () => {
  const table = tablesOf("docs/commands.md").find(({ heading }) => heading[0] === "code");
  assert.ok(table);
  const all = [...Object.values(EXIT), ...Object.values(SIGNAL_EXIT)];
  assert.deepEqual(table.rows.map(([code]) => Number(code)), all);
  for (const [signal, code] of Object.entries(SIGNAL_EXIT)) {
    const row = table.rows.find(([number]) => Number(number) === code);
    assert.ok(row?.[1].startsWith(`${signal}:`), signal);
  }
});

Deno.test("exit codes: an error's kind decides", async () => {
  const { error } = console;
  console.error = () => {};
  try {
    const codes = [new UserError("a"), new UsageError("b"), new ExitError("c", 3), new Error("d")]
      .map((error) => statusOf(() => Promise.reject(error), []));
    assert.deepEqual(await Promise.all(codes), [1, 2, 3, 1]);
  } finally {
    console.error = error;
  }
});
