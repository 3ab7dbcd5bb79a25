/** The server's page in a browser: what answers are made of, and models that come and go. */
import assert from "node:assert/strict";
import { answerText, idle, OPEN, pageTest } from "./page_tab.ts";

pageTest("code is copied from the block that it is in", { context: 1024 }, async (tab) => {
  const { page, until, admitted, give, send, ids, press, faults } = tab;
  const { origin } = new URL(page.url());
  await page.browserContext().overridePermissions(origin, [
    "clipboard-read",
    "clipboard-sanitized-write",
  ]);
  await send("Code?");
  const { id } = await admitted();
  give({ id, ids: await ids("First:\n\n```ts\nlet a = 1;\n\nlet b;\n```\n\nThen:\n\n```\nb") });
  await until("document.querySelectorAll('.answer pre').length === 2");
  const buttons = () => page.$$eval(".answer .text button", (all) => all.length);
  assert.equal(await buttons(), 0, "what is drawn anew can't be pressed");
  give({ id, ids: await ids(" = 2;\n```\n"), finished: "stop" });
  await until(idle(1));
  assert.equal(await buttons(), 2);
  const copied = () => page.evaluate("navigator.clipboard.readText()");
  await press("Copy code", ".answer .code:nth-of-type(1)");
  await until("document.querySelector('.code button').textContent === 'Copied'");
  assert.equal(await copied(), "let a = 1;\n\nlet b;");
  await press("Copy");
  assert.match(String(await copied()), /^First:\n\n```ts\n[^]*```\n$/);
  assert.deepEqual(faults, []);
});

pageTest("text goes in its own direction, and columns as they are said to", {
  context: 1024,
}, async (tab) => {
  const { page, until, admitted, send, answer, faults } = tab;
  await send("مرحبا (hello)");
  const table = "| a | b |\n| --: | - |\n| 1 | 2 |";
  await answer(await admitted(), `שלום (abc)\n\n- שורה\n\nLeft שלום\n\n7. seven\n\n${table}`);
  await until(idle(1));
  const styles = (selector: string, name: string) =>
    page.evaluate(
      `[...document.querySelectorAll("${selector}")].map((one) => getComputedStyle(one).${name})`,
    );
  const directions = (selector: string) => styles(selector, "direction");
  assert.deepEqual(await directions(".prompt .text"), ["rtl"]);
  assert.deepEqual(await directions(".answer .text > p"), ["rtl", "ltr"]);
  assert.deepEqual(await directions(".answer li"), ["rtl", "ltr"]);
  assert.equal(await page.$eval(".answer ol", (list) => list.getAttribute("start")), "7");
  // The attribute is Chromium's own value.
  assert.deepEqual(await styles(".answer td", "textAlign"), ["-webkit-right", "start"]);
  assert.deepEqual(faults, []);
});

pageTest("who reads further up stays there, and comes to the end by a button", {
  context: 4096,
}, async (tab) => {
  const { page, until, admitted, give, send, ids, press, faults } = tab;
  await send("Go on.");
  const { id } = await admitted(), lines = await ids("A line.\n\n".repeat(40));
  const isAtEnd = "innerHeight + scrollY > document.documentElement.scrollHeight - 2";
  const grows = async (times: number) => {
    give({ id, ids: lines });
    await until(`document.querySelectorAll(".answer p").length >= ${40 * times}`);
  };
  const button = (shown: boolean) => `document.querySelector("#to-end").hidden === ${!shown}`;
  await grows(1);
  await until(`${isAtEnd} && ${button(false)}`);
  await page.evaluate("scrollTo(0, 100)");
  await until(button(true));
  await grows(2);
  assert.equal(await page.evaluate("scrollY"), 100);
  await press("To the end");
  await until(`${isAtEnd} && ${button(false)}`);
  assert.equal(await page.evaluate("document.activeElement.id"), "prompt");
  await grows(3);
  await until(`${isAtEnd} && ${button(false)}`);
  give({ id, ids: [], finished: "stop" });
  await until(idle(1));
  assert.deepEqual(faults, []);
});

pageTest(
  "characters that come in several tokens are shown once they are whole",
  {},
  async (tab) => {
    const { until, admitted, give, send, ids, faults } = tab;
    await send("Parrot?");
    const { id } = await admitted(), parrot = await ids("A 🦜!");
    assert.ok(parrot.length > 4, "a token a byte");
    for (const token of parrot) {
      give({ id, ids: [token] });
      await until(`!${answerText(0)}.includes("\ufffd")`);
    }
    give({ id, ids: [], finished: "stop" });
    await until(`${idle(1)} && ${answerText(0)} === "A 🦜!"`);
    assert.deepEqual(faults, []);
  },
);

pageTest("a model that is served no more is told, and those that are can be chosen", {
  names: ["builtin"],
}, async (tab) => {
  const { page, until, admitted, send, answer, text, press, faults } = tab;
  // As where the server was started anew with other adapters.
  await page.evaluate(`(() => {
    const select = document.querySelector("#model-0");
    select.append(new Option("gone"));
    select.value = "gone";
    select.dispatchEvent(new Event("change"));
  })()`);
  await send("Who?");
  await until(`${idle(1)} && document.querySelector("#model-0").value === "builtin"`);
  assert.equal(
    await text(".problem"),
    'Model "gone" is not served here; expected "builtin".',
  );
  await press("Retry");
  await answer(await admitted(), "Lulu.");
  await until(`${idle(1)} && ${answerText(0)} === "Lulu."`);
  assert.ok(faults.every((fault) => /status of 404/.test(fault)), faults.join("\n"));
});

pageTest("without JavaScript the page says what it needs", {}, async ({ page, until, text }) => {
  await until(OPEN);
  await page.setJavaScriptEnabled(false);
  await page.reload();
  assert.match(await text("noscript"), /needs JavaScript/);
});
