/** The server's page in a browser: sizes, colours, keyboard, what is read aloud, files that it saves, and real models. */
import assert from "node:assert/strict";
import { join } from "node:path";
import axe from "axe-core/axe.min.js" with { type: "text" };
import type { Page } from "puppeteer-core";
import { openModelWithTokenizer } from "../../../model/checkpoint/source.ts";
import { loadDataset } from "../../../model/text/data/dataset.ts";
import { startLorikeet, TemporaryFolder } from "../../cli/cli.ts";
import { gpu } from "../../kernels/harness.ts";
import { browserTest, LAPTOP, PHONE } from "../../watch/chromium.ts";
import { addressOf, end } from "../../watch/served.ts";
import { writeBuiltinAdapter } from "./builtin_adapter.ts";
import { answerText, idle, OPEN, pageTest } from "./page_tab.ts";

/** What axe finds wrong with a page, by its rules for people with other senses or hands. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return await page.evaluate(`axe.run().then(({ violations }) => violations.flatMap(
    ({ id, nodes }) => nodes.map(({ target, failureSummary }) => id + " " + target + ": " + failureSummary),
  ))`) as string[];
}

const MARKDOWN = "## Title\n\n**bold** `code` [link](https://example.org)\n\n```\n" +
  `${"long ".repeat(60)}\n\`\`\`\n\n| a | b |\n| - | - |\n| 1 | ${"wide".repeat(60)} |\n`;

for (const [size, viewport] of Object.entries({ phone: PHONE, laptop: LAPTOP })) {
  const settings = { names: ["builtin", `a-${"long-".repeat(12)}name`], context: 4096 };
  pageTest(
    `all of it fits a ${size}, light and dark, and axe finds nothing`,
    settings,
    async (tab) => {
      const { page, until, admitted, give, send, ids, answer, press, faults } = tab;
      await page.setViewport(viewport);
      const looked = async (what: string) => {
        for (
          const [scheme, colour] of [["light", "rgb(251, 250, 247)"], ["dark", "rgb(20, 24, 26)"]]
        ) {
          await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
          await until(`getComputedStyle(document.body).backgroundColor === "${colour}"`);
          const width = await page.evaluate("document.documentElement.scrollWidth");
          assert.equal(width, viewport.width, what);
          assert.deepEqual(await violations(page), [], `${what}, ${scheme}`);
        }
      };
      await looked("nothing said yet");
      await send("x".repeat(300));
      await answer(await admitted(), MARKDOWN);
      await until(idle(1));
      await looked("one model");
      await press("Compare");
      await press("Probabilities");
      await send("Both?");
      for (const { id } of [await admitted(), await admitted()]) {
        const own = await ids("Lulu hides from the rain, and Mango hides from frogs.");
        const logprobs = own.map((token, i) => {
          const logprob = Math.log([0.95, 0.6, 0.3, 0.1, 0.01][i % 5]);
          return { logprob, top: [{ id: token, logprob }] };
        });
        give({ id, ids: own, logprobs, finished: "stop" });
      }
      await until(idle(2));
      await page.focus(".tokens span");
      await until("document.querySelector('#alternatives').matches(':popover-open')");
      await looked("two models, and a token");
      await press("Edit", "#turns > li:nth-child(2) .prompt");
      if (size === "phone") await press("Settings");
      await looked("settings, and an editor");
      await page.keyboard.press("Escape");
      await press("New");
      await until("!document.querySelector('#undo').hidden");
      await looked("something to take back");
      assert.deepEqual(faults, []);
    },
  );
}

pageTest(
  "Enter sends and Shift and Enter do not, nor does Enter of an input method",
  {},
  async (tab) => {
    const { page, until, admitted, promptOf, answer, told, faults } = tab;
    const typed = () =>
      page.$eval("#prompt", (field) => (field as unknown as { value: string }).value);
    await page.focus("#prompt");
    await page.keyboard.type("one");
    await page.keyboard.down("Shift");
    await page.keyboard.press("Enter");
    await page.keyboard.up("Shift");
    await page.keyboard.type("two");
    assert.equal(await typed(), "one\ntwo");
    await page.evaluate(`document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, isComposing: true }))`);
    const session = await page.createCDPSession();
    await session.send("Input.imeSetComposition", {
      text: "三",
      selectionStart: 1,
      selectionEnd: 1,
    });
    await session.send("Input.dispatchKeyEvent", {
      type: "rawKeyDown",
      key: "Process",
      windowsVirtualKeyCode: 229,
    });
    await session.send("Input.insertText", { text: "三" });
    assert.equal(await typed(), "one\ntwo三");
    assert.deepEqual(told, []);
    await page.keyboard.press("Enter");
    const admission = await admitted();
    assert.match(await promptOf(admission), /one\ntwo三/);
    assert.equal(await typed(), "");
    await answer(admission, "Yes.");
    await until(idle(1));
    assert.deepEqual(faults, []);
  },
);

pageTest("the keyboard reaches everything in the order in which it is read", {}, async (tab) => {
  const { page, until, admitted, send, answer } = tab;
  await send("Who?");
  await answer(await admitted(), "Lulu.");
  await until(idle(1));
  await page.click("h1");
  const reached: string[] = [];
  const focused = `(() => {
    const { activeElement: { id, textContent, tagName }, activeElement } = document;
    const { outlineStyle, outlineWidth } = getComputedStyle(activeElement);
    if (tagName === "BODY") return "";
    return (id || textContent.trim()) + (outlineStyle === "solid" && outlineWidth === "3px" ? "" : " unseen");
  })()`;
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press("Tab");
    const name = await page.evaluate(focused) as string;
    if (name === "") break;
    reached.push(name);
  }
  assert.deepEqual(
    reached,
    [
      "new",
      "compare",
      "probabilities",
      "settings-button",
      "system",
      "temperature",
      "top_p",
      "top_k",
    ]
      .concat("min_p", "max_tokens", "seed", "repetition_penalty", "frequency_penalty")
      .concat("presence_penalty", "defaults", "save", "save-sample-0", "model-0", "Edit", "Retry")
      .concat("Edit", "Copy", "prompt", "send"),
  );
});

pageTest("a conversation is saved whole, and as a sample that training reads", {
  names: ["builtin", "polite"],
}, async (tab) => {
  const { page, until, admitted, send, answer, press, faults } = tab;
  using folder = new TemporaryFolder();
  const session = await page.createCDPSession();
  await session.send("Page.setDownloadBehavior", { behavior: "allow", downloadPath: folder.path });
  const saved = async (name: string, button: string) => {
    await press(button);
    for (;;) {
      try {
        const text = Deno.readTextFileSync(join(folder.path, name));
        if (text.endsWith("\n")) return text;
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  await page.type("#system", "Be short.");
  await page.type("#temperature", "0");
  await press("Compare");
  await send("Who?");
  for (const admission of [await admitted(), await admitted()]) {
    await answer(admission, admission.options.adapter === 1 ? "Please, Lulu." : "Lulu.");
  }
  await until(idle(1));
  const whole = JSON.parse(await saved("conversation.json", "Conversation (JSON)"));
  assert.deepEqual([whole.system, whole.sampling], ["Be short.", { temperature: 0 }]);
  assert.equal(whole.turns[0].answers[1].text, "Please, Lulu.");
  const sample = await saved("polite.jsonl", "Training sample of polite");
  assert.deepEqual(JSON.parse(sample), {
    messages: [
      { role: "system", content: "Be short." },
      { role: "user", content: "Who?" },
      { role: "assistant", content: "Please, Lulu." },
    ],
  });
  const { source, tokenizer, tokenizerPath } = await openModelWithTokenizer({
    model: "builtin",
    add_bos: "auto",
  });
  source.weights?.close();
  const data = join(folder.path, "polite.jsonl"), bounds = { max_length: 512, context: 512 };
  const samples = [...await loadDataset(tokenizer, { data, tokenizerPath, ...bounds, say() {} })];
  assert.match(tokenizer.decode([...samples[0][0].ids]), /Be short\.[^]*Who\?[^]*Please, Lulu\./);
  assert.deepEqual(faults, []);
});

browserTest(
  "serve page: a model and its adapter answer side by side as they do alone",
  async (tab) => {
    const { page, until, faults } = tab;
    using folder = new TemporaryFolder();
    const adapter = join(folder.path, "one");
    await writeBuiltinAdapter(adapter, { r: 4, alpha: 8, targets: ["q_proj", "v_proj"], seed: 1 });
    const model = ["--model", "builtin", "--gpu", "deno", "--adapter", `polite=${adapter}`];
    const command = startLorikeet("serve", [...model, "--port", "0"]);
    try {
      const { origin } = await addressOf(command), content = "Who is afraid of rain?";
      const alone = async (name: string) => {
        const response = await fetch(`${origin}/v1/chat/completions`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({
            model: name,
            messages: [{ role: "user", content }],
            temperature: 0,
            max_tokens: 24,
          }),
        });
        return (await response.json()).choices[0].message.content as string;
      };
      const expected = [await alone("builtin"), await alone("polite")];
      assert.notEqual(expected[0], expected[1]);
      await page.setViewport(LAPTOP);
      await page.goto(origin);
      await until(OPEN);
      await page.type("#temperature", "0");
      await page.type("#max_tokens", "24");
      await page.click("#compare");
      await page.type("#prompt", content);
      await page.keyboard.press("Enter");
      await until(`document.querySelectorAll(".answer").length === 2 && ${idle(1)}`);
      const words = (text: string) => text.split(/\s+/).filter((word) => word !== "");
      for (const [column, text] of expected.entries()) {
        assert.deepEqual(words(await page.evaluate(answerText(0, column)) as string), words(text));
      }
      assert.deepEqual(faults, []);
    } finally {
      await page.close();
      await end(command);
    }
  },
  gpu ? undefined : "no GPU adapter",
);
