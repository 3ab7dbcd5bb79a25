/** The server's page in a browser: what a reload finds again, keys, and what can go wrong. */
import assert from "node:assert/strict";
import { answerText, idle, OPEN, pageTest } from "./page_tab.ts";

const KEY = "0123456789abcdef";

pageTest("a reload finds the conversation, what was typed and what was set", {
  names: ["builtin", "polite"],
}, async (tab) => {
  const { page, until, admitted, give, send, ids, answer, press, untilTold, faults } = tab;
  await page.select("#model-0", "polite");
  await page.type("#temperature", "0.5");
  await page.type("#system", "Be short.");
  await send("Who?");
  const first = await admitted();
  assert.deepEqual([first.options.adapter, first.options.sampling?.temperature], [1, 0.5]);
  await answer(first, "Lulu.");
  await until(idle(1));
  await send("Where?");
  give({ id: (await admitted()).id, ids: await ids("In the") });
  await until(`${answerText(1)} === "In the"`);
  await page.type("#prompt", "Not sent");
  await page.reload();
  await until(`${OPEN} && ${idle(2)}`);
  await untilTold("evict");
  assert.equal(await page.evaluate(answerText(0)), "Lulu.");
  assert.equal(await page.evaluate(answerText(1)), "In the");
  assert.match(await tab.text("#turns > li:last-child .facts"), /stopped$/);
  assert.equal(await tab.text("#turns > li:last-child .problem"), "");
  const values = await page.$$eval(
    "#prompt, #temperature, #system, #model-0",
    (all) => all.map((field) => (field as unknown as { value: string }).value),
  );
  assert.deepEqual(values.toSorted(), ["0.5", "Be short.", "Not sent", "polite"]);
  await press("New");
  await page.reload();
  await until(OPEN);
  assert.equal(await page.evaluate("document.querySelectorAll('#turns > li').length"), 0);
  assert.deepEqual(faults, []);
});

pageTest("a key is asked for where the server wants one, and kept in the tab alone", {
  keys: [KEY],
}, async (tab) => {
  const { page, until, told, admitted, text, send, faults } = tab;
  await until("!document.querySelector('#key-form').hidden");
  assert.equal(await page.evaluate("document.activeElement.id"), "key");
  await page.type("#prompt", "Typed before");
  // What is wrong with a key stands by its field, until another one is typed.
  const said = (problem: string) =>
    until(`document.querySelector('#key-problem').textContent === '${problem}'`);
  const isInvalid = () => page.$eval("#key", (field) => field.getAttribute("aria-invalid"));
  await said("The API key is missing or wrong.");
  await page.type("#key", "wr ong");
  assert.deepEqual([await text("#key-problem"), await isInvalid()], ["", null]);
  await page.keyboard.press("Enter");
  await said("A key has letters, digits and signs, and no spaces.");
  await page.$eval("#key", (field) => (field as unknown as { value: string }).value = "");
  await page.type("#key", "wrong");
  await page.keyboard.press("Enter");
  await said("The API key is missing or wrong.");
  assert.equal(await isInvalid(), "true");
  const described = await page.$eval("#key", (field) => field.getAttribute("aria-describedby"));
  assert.equal(described, "key-problem");
  assert.equal(await text("#notice-text"), "");
  const [field, problem] = await page.$$eval(
    "#key, #key-problem",
    (all) => all.map((one) => one.getBoundingClientRect().top),
  );
  assert.ok(problem > field && problem - field < 80, "the problem is below its field");
  await page.$eval("#key", (field) => (field as unknown as { value: string }).value = "");
  await page.type("#key", KEY);
  await page.keyboard.press("Enter");
  await until(`${OPEN} && document.querySelector('#key-form').hidden`);
  assert.equal(await text("#notice-text"), "");
  assert.deepEqual(told, []);
  await send(" and after");
  const { id } = await admitted();
  tab.give({ id, ids: [5], finished: "stop" });
  await until(idle(1));
  assert.equal(await text(".prompt .text"), "Typed before and after");
  const stored = await page.evaluate(
    "[Object.values(localStorage).join(), Object.values(sessionStorage).join(), document.cookie]",
  ) as string[];
  assert.deepEqual(stored.map((kept) => kept.includes(KEY)), [false, true, false]);
  await page.reload();
  await until(OPEN);
  // A browser notes each answer that is an error.
  assert.ok(
    faults.length === 2 && faults.every((fault) => /status of 401/.test(fault)),
    faults.join("\n"),
  );
});

pageTest("what goes wrong is said in a sentence, and what was typed stays", {
  sequences: 1,
  queue: 0,
  context: 64,
}, async (tab) => {
  const { page, until, post, admitted, send, answer, text, server, press, faults } = tab;
  const busy = post("/v1/completions", { model: "builtin", prompt: "Daisy" });
  const other = await admitted();
  await send("Who?");
  await until(idle(1));
  assert.match(await text(".problem"), /^Too many answers wait already; try again in \d+ s\.$/);
  assert.match(await text("#announcer"), /^Too many answers/);
  await answer(other, "x");
  await busy;
  await press("Retry");
  await answer(await admitted(), "Lulu.");
  await until(`${idle(1)} && ${answerText(0)} === "Lulu."`);
  await send("rain ".repeat(80));
  await until(idle(2));
  assert.match(
    await text("#turns > li:nth-child(2) .problem"),
    /^The conversation is too long\. Messages: .*\.$/,
  );
  await page.type("#top_p", "7");
  await send("Kept");
  assert.equal(
    await page.$eval("#prompt", (field) => (field as unknown as { value: string }).value),
    "Kept",
  );
  assert.equal(await page.evaluate("document.activeElement.id"), "top_p");
  await press("Edit", "#turns > li:nth-child(1) .prompt");
  await page.keyboard.type(" Really?");
  await page.keyboard.press("Enter");
  const edited = "document.querySelector('.editor textarea').value";
  assert.equal(await page.evaluate(edited), "Who? Really?");
  await press("Cancel");
  await press("Defaults");
  await server.close();
  await page.focus("#prompt");
  await page.keyboard.press("Enter");
  await until(idle(3));
  assert.equal(
    await text("#turns > li:nth-child(3) .problem"),
    "The server does not answer: it has ended, or the way to it.",
  );
  assert.equal(await text("#turns > li:nth-child(3) .prompt .text"), "Kept");
  assert.ok(
    faults.every((fault) => /status of 4(29|00)|ERR_CONNECTION_REFUSED/.test(fault)),
    faults.join("\n"),
  );
});
