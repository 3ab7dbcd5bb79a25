/** The server's page in a browser: what a person can do with a conversation. */
import assert from "node:assert/strict";
import { answerText, idle, pageTest } from "./page_tab.ts";

pageTest("an answer is shown as it comes, and announced once it is there", {}, async (tab) => {
  const { page, until, admitted, give, send, ids, promptOf, text, faults } = tab;
  await send("Who is afraid of rain?");
  const admission = await admitted();
  assert.match(await promptOf(admission), /Who is afraid of rain\?/);
  await until("document.querySelector('.facts').textContent === 'Waiting'");
  const [first, second] = [await ids("Lulu is"), await ids("afraid.")];
  give({ id: admission.id, ids: first });
  await until(`${answerText(0)} === "Lulu is"`);
  assert.equal(await text("#announcer"), "");
  assert.equal(await page.$eval(".answer", (answer) => answer.ariaBusy), "true");
  give({ id: admission.id, ids: second, finished: "length" });
  await until(idle(1));
  assert.equal(await page.evaluate(answerText(0)), "Lulu is afraid.");
  assert.equal(await text("#announcer"), "builtin has answered: Lulu is afraid.");
  assert.match(
    await text(".facts"),
    /^\d+ tokens · .* tokens\/s · .* · ended by the limit of tokens$/,
  );
  await send("And who hides?");
  const next = await admitted();
  assert.match(await promptOf(next), /rain\?[^]*Lulu is afraid\.[^]*And who hides\?/);
  await tab.answer(next, "Daisy.");
  await until(idle(2));
  assert.deepEqual(faults, []);
});

pageTest("Escape and Stop end an answer, and what came of it stays", {}, async (tab) => {
  const { page, until, admitted, give, send, ids, untilTold, press, faults } = tab;
  const stops = [() => page.keyboard.press("Escape"), () => press("Stop", "#composer")]
    .concat(() => press("Stop", "#turns > li:last-child"));
  for (const [turn, stop] of stops.entries()) {
    await send("Go on.");
    const { id } = await admitted();
    give({ id, ids: await ids("Mango") });
    await until(`${answerText(turn)} === "Mango"`);
    await stop();
    await untilTold("evict");
    await until(idle(turn + 1));
    assert.equal(await page.evaluate(answerText(turn)), "Mango");
    assert.match(await tab.text("#turns > li:last-child .facts"), /stopped$/);
    assert.equal(await page.evaluate("document.activeElement.id"), "prompt");
  }
  assert.deepEqual(faults, []);
});

pageTest(
  "a message is edited, an answer retried and corrected, and all that taken back",
  {},
  async (tab) => {
    const { page, until, admitted, send, promptOf, answer, press, faults } = tab;
    await send("One?");
    await answer(await admitted(), "First.");
    await until(idle(1));
    await send("Two?");
    await answer(await admitted(), "Second.");
    await until(idle(2));

    await press("Retry", "#turns > li:nth-child(2)");
    const retried = await admitted();
    assert.doesNotMatch(await promptOf(retried), /Second/);
    await answer(retried, "Another.");
    await until(idle(2));
    assert.equal(await page.evaluate(answerText(1)), "Another.");
    await press("Undo");
    await until(`${answerText(1)} === "Second."`);

    await press("Edit", "#turns > li:nth-child(1) .answer");
    await page.keyboard.type(" Indeed.");
    await page.keyboard.press("Enter");
    await until(`${answerText(0)} === "First. Indeed."`);

    await press("Edit", "#turns > li:nth-child(2) .prompt");
    await page.keyboard.type(" Or three?");
    await page.keyboard.press("Escape");
    assert.equal(await tab.text("#turns > li:nth-child(2) .prompt .text"), "Two?");
    await press("Edit", "#turns > li:nth-child(1) .prompt");
    await page.keyboard.type(" Or three?");
    await page.keyboard.press("Enter");
    const edited = await admitted();
    const prompt = await promptOf(edited);
    assert.match(prompt, /One\? Or three\?/);
    assert.doesNotMatch(prompt, /Two|First/);
    await answer(edited, "Third.");
    await until(idle(1));
    await press("Undo");
    await until(`${idle(2)} && ${answerText(0)} === "First. Indeed."`);
    await press("New");
    await until("document.querySelectorAll('#turns > li').length === 0");
    await press("Undo");
    await until(idle(2));
    assert.deepEqual(faults, []);
  },
);

pageTest("two models are asked at once, and each goes on from its own answers", {
  names: ["builtin", "polite"],
}, async (tab) => {
  const { page, until, admitted, give, send, ids, promptOf, press, faults } = tab;
  await press("Compare");
  assert.deepEqual(
    await page.$$eval("#columns select", (all) => all.map(({ value }) => value)),
    ["builtin", "polite"],
  );
  await send("Who?");
  const both = [await admitted(), await admitted()].toSorted((a, b) =>
    (a.options.adapter ?? 0) - (b.options.adapter ?? 0)
  );
  assert.deepEqual(both.map(({ options }) => options.adapter ?? 0), [0, 1]);
  for (const [column, word] of ["Lulu", "Mango"].entries()) {
    give({ id: both[column].id, ids: await ids(word) });
    await until(`${answerText(0, column)} === "${word}"`);
  }
  for (const { id } of both.toReversed()) give({ id, ids: await ids("hides."), finished: "stop" });
  await until(idle(1));
  await send("Where?");
  const next = [await admitted(), await admitted()];
  for (const admission of next) {
    const own = admission.options.adapter === 1 ? "Mango" : "Lulu";
    const prompt = await promptOf(admission);
    assert.match(prompt, new RegExp(`Who\\?[^]*${own} hides\\.[^]*Where\\?`));
    assert.doesNotMatch(prompt, own === "Mango" ? /Lulu/ : /Mango/);
    await tab.answer(admission, "There.");
  }
  await until(idle(2));
  assert.deepEqual(faults, []);
});

pageTest(
  "a token's probability and alternatives are shown to the pointer and the keyboard",
  {},
  async (tab) => {
    const { page, until, admitted, give, send, ids, press, text, faults } = tab;
    await press("Probabilities");
    await send("Who?");
    const { id, options } = await admitted();
    assert.equal(options.logprobs, 5);
    const own = await ids("Lulu hides."), [other] = await ids("Mango");
    const logprobs = own.map((token, i) => ({
      logprob: Math.log(0.25),
      top: [{ id: other, logprob: Math.log(0.5) }, { id: token, logprob: Math.log(0.25) }].slice(
        0,
        i + 1,
      ),
    }));
    give({ id, ids: own, logprobs, finished: "stop" });
    await until(idle(1));
    const shown = "document.querySelector('#alternatives').matches(':popover-open')";
    assert.equal(await page.evaluate(shown), false);
    await page.hover(".tokens span:nth-child(2)");
    await until(shown);
    const alternatives = await page.$$eval(
      "#alternatives li",
      (all) => all.map((one) => one.textContent),
    );
    assert.equal(alternatives.length, 2);
    assert.match(alternatives[0], /^"\s?Mango"50\.0 %$/);
    assert.match(alternatives[1], /25\.0 %$/);
    assert.ok(
      await page.$eval("#alternatives li:nth-child(2)", (one) => one.classList.contains("chosen")),
    );
    await page.hover("h1");
    await until(`!${shown}`);
    await page.focus(".tokens span");
    await until(shown);
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowLeft");
    const focused = await page.evaluate(
      "[...document.activeElement.parentNode.children].indexOf(document.activeElement)",
    );
    assert.equal(focused, own.length - 2);
    assert.equal(
      await page.evaluate("document.activeElement.getAttribute('aria-describedby')"),
      "alternatives",
    );
    await page.keyboard.press("Escape");
    await until(`!${shown}`);
    await press("Probabilities");
    await until("document.querySelector('.tokens') === null");
    assert.equal((await text(".answer .text")).trim(), "Lulu hides.");
    assert.deepEqual(faults, []);
  },
);

pageTest("one of two answers is retried while the other goes on, and one asked for later", {
  names: ["builtin", "polite"],
  sequences: 4,
}, async (tab) => {
  const { page, until, admitted, give, send, ids, answer, press, told, faults } = tab;
  await send("Who?");
  await answer(await admitted(), "Lulu.");
  await until(idle(1));
  await page.evaluate("document.querySelector('.answer .text').firstElementChild.id = 'same'");
  await press("Compare");
  await press("Ask polite");
  const slow = await admitted();
  assert.equal(slow.options.adapter, 1);
  give({ id: slow.id, ids: await ids("Mango") });
  await until(`${answerText(0, 1)} === "Mango"`);
  assert.equal(
    (await tab.text("#same")).trim(),
    "Lulu.",
    "what has not changed is not drawn again",
  );
  await press("Retry", ".answer:first-child");
  await answer(await admitted(), "Daisy.");
  await until(`${answerText(0)} === "Daisy."`);
  assert.equal(await page.evaluate(answerText(0, 1)), "Mango");
  give({ id: slow.id, ids: await ids("hides."), finished: "stop" });
  await until(idle(1));
  assert.match(await page.evaluate(answerText(0, 1)) as string, /^Mango\s+hides\.$/);
  assert.ok(told.every(({ kind }) => kind !== "evict"), "nothing was stopped");
  assert.deepEqual(faults, []);
});

/** Markdown with HTML, of which each piece would leave a mark if it were taken for more than text. */
const NASTY = `# Title

**bold** and [a link](https://example.org/a) and [another](javascript:document.title='ran')

<img src=x onerror="document.title='ran'"> <script>document.title='ran'</script>
<svg onload="document.title='ran'"> <a href="javascript:document.title='ran'" id=prompt>x</a>

![a picture](http://evil.example/p.png) [relative](/v1/models)

- [x] done

| a | b |
| - | - |
| 1 | 2 |

\`\`\`html
<b onclick="x">code</b>
\`\`\`
`;

pageTest(
  "Markdown is shown, and nothing in it runs or is loaded",
  { context: 4096 },
  async (tab) => {
    const { page, until, admitted, send, answer, faults } = tab;
    await send("Show all.");
    await answer(await admitted(), NASTY);
    await until(idle(1));
    const count = (selector: string) =>
      page.$$eval(`.answer .text :is(${selector})`, ({ length }) => length);
    assert.deepEqual(
      await Promise.all(
        [
          "h4",
          "strong",
          "table",
          "pre",
          "img, script, svg, input, style, iframe",
          "[id], [onclick], [onerror]",
        ].map(count),
      ),
      [1, 1, 1, 1, 0, 0],
    );
    const links = await page.$$eval(
      ".answer .text a",
      (all) =>
        all.map((link) => [link.textContent, link.getAttribute("href"), link.getAttribute("rel")]),
    );
    const safe = "noopener noreferrer";
    assert.deepEqual(
      links.filter(([, href]) => href !== null),
      [
        ["a link", "https://example.org/a", safe],
        ["a picture", "http://evil.example/p.png", safe],
      ],
    );
    const shown = await page.evaluate(answerText(0)) as string;
    assert.match(shown, /<img src=x onerror="document\.title='ran'">/);
    assert.match(shown, /<b onclick="x">code<\/b>/);
    assert.equal(await page.title(), "Lorikeet");
    assert.deepEqual(faults, []);
  },
);

pageTest(
  "the page's policy refuses a script that got in all the same",
  {},
  async ({ page, faults }) => {
    await page.evaluate(`(() => {
    const made = document.createElement("div");
    try { made.innerHTML = "<img src=x onerror=\\"document.title='ran'\\">"; } catch {}
    const script = document.createElement("script");
    try { script.textContent = "document.title = 'ran'"; } catch {}
    document.body.append(made, script);
    const image = new Image();
    image.src = "http://127.0.0.1:9/p.png";
  })()`);
    await new Promise((done) => setTimeout(done, 200));
    assert.equal(await page.title(), "Lorikeet");
    const refused = [/TrustedHTML/, /TrustedScript/, /img-src 'self'/];
    for (const reason of refused) {
      assert.ok(faults.some((fault) => reason.test(fault)), `${reason}: ${faults.join("\n")}`);
    }
  },
);
