/** The page in a browser: what it shows of runs that go on, and what a person can do with it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Runs } from "../../train/watch/runs.ts";
import { serveWatchPage, type WatchPage } from "../../train/watch/serve.ts";
import { inFolder, makeRun, metricsLine, metricsLines } from "../train/watch/run_files.ts";
import { browserTest, LAPTOP, PHONE, type Watched } from "./chromium.ts";

/** Text that would be a picture or a script, if it were taken for more than text, and that turns direction. */
const NASTY =
  '<img src="http://evil.example/x" onerror="fetch(\'http://evil.example\')">\u202e\u001b[31m';

const evaluation = (step: number, loss: number, answer: string) =>
  JSON.stringify({ step, epoch: 1, loss, samples: [{ prompt: NASTY, answer }] }) + "\n";

/** A tab with a page of runs. */
interface Shown extends Watched {
  served: WatchPage;
  folders: string[];
}

/** A test with the page of some runs, each with its files. */
function pageTest(
  name: string,
  files: Readonly<Record<string, Readonly<Record<string, string>>>>,
  body: (shown: Shown) => Promise<void>,
): void {
  browserTest(`watch page: ${name}`, (tab) =>
    inFolder(async (parent) => {
      const folders = Object.entries(files).map(([name, own]) => makeRun(join(parent, name), own));
      const served = await serveWatchPage(new Runs(folders), 0);
      try {
        await body({ ...tab, served, folders });
      } finally {
        await tab.page.close();
        await served.close();
      }
    }));
}

/** Of the page's JavaScript: the cell of the first run under a heading. */
const cell = (label: string) =>
  `document.querySelector('#runs td[data-label="${label}"]').textContent`;
/** Whether the page has shown runs, with a chart. */
const OPEN = "document.querySelectorAll('#charts canvas').length === 5";
/** The words of a chart for those who can't see it. */
const words = (metric: string) =>
  `document.querySelector("#chart-${metric} [role=slider]").getAttribute("aria-valuetext")`;

const TWO = {
  first: {
    "metrics.jsonl": metricsLines(1, 40),
    "evaluations.jsonl": evaluation(40, 1.5, "Fine."),
    "config.yaml": "# GPU memory: 40.7 MB (parameter 2.1, workspace 38.6)\n",
  },
  second: { "metrics.jsonl": metricsLines(1, 20), "summary.json": '{"peak_memory_mb":41.2}' },
};

/** How many colours a chart has. */
const COLOURS = `(() => {
  const canvas = document.querySelector("#chart-loss canvas");
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  return new Set(Array.from(new Uint32Array(data.buffer))).size;
})()`;

for (const [size, viewport] of Object.entries({ phone: PHONE, laptop: LAPTOP })) {
  pageTest(`all of it fits a ${size}, light and dark`, TWO, async (shown) => {
    const { page, served, until, faults } = shown;
    await page.setViewport(viewport);
    await page.goto(served.url);
    await until(OPEN);
    for (const [scheme, colour] of [["light", "rgb(251, 250, 247)"], ["dark", "rgb(20, 24, 26)"]]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await until(`getComputedStyle(document.body).backgroundColor === "${colour}"`);
      await until(`${COLOURS} > 10`);
      assert.equal(await page.evaluate("document.documentElement.scrollWidth"), viewport.width);
    }
    assert.deepEqual(faults, []);
  });
}

pageTest("it follows a run that goes on and one that goes back", TWO, async (shown) => {
  const { page, served, until, folders: [folder], faults } = shown;
  await page.goto(served.url);
  await until(`${OPEN} && ${cell("Step")} === "40"`);
  const path = join(folder, "metrics.jsonl");
  Deno.writeTextFileSync(path, metricsLines(41, 50), { append: true });
  await until(`${cell("Step")} === "50"`);
  await until(`${words("loss")}.includes("first 1.0")`);
  Deno.writeTextFileSync(path, metricsLines(1, 30));
  await until(`${cell("Step")} === "30"`);
  assert.equal(await page.evaluate(cell("State")), "running");
  assert.equal(await page.evaluate(cell("Memory")), "40.7 MB");
  Deno.removeSync(folder, { recursive: true });
  await until(`${cell("State")} === "folder is gone"`);
  assert.deepEqual(faults, []);
});

pageTest("rewards have charts while a run that has them is shown", {
  plain: { "metrics.jsonl": metricsLines(1, 2) },
  pairs: {
    "metrics.jsonl": metricsLine(1, { rewards_accuracies: 0.5, rewards_margins: -2 }) +
      metricsLine(2, { rewards_accuracies: 0.5, rewards_margins: -2 }),
  },
}, async ({ page, served, until, faults }) => {
  await page.goto(served.url);
  await until("document.querySelectorAll('#charts canvas').length === 7");
  await until(`${words("rewards_margins")}.endsWith(" -2")`);
  await page.click("#log");
  await until(`${words("rewards_accuracies")}.endsWith(" 0.5")`);
  await page.click("#runs tr:nth-of-type(2) input[type=checkbox]");
  const hidden = ["rewards_accuracies", "rewards_margins"].map((metric) =>
    `document.querySelector("#chart-${metric}").hidden`
  );
  await until(hidden.join(" && "));
  assert.deepEqual(faults, []);
});

pageTest("names, answers and configurations are only text", {
  "<b onclick=x>run\u202e": {
    "metrics.jsonl": metricsLines(1, 3),
    "evaluations.jsonl": evaluation(0, 2, "old") + evaluation(3, 1, NASTY),
    "config.yaml": `model: ${NASTY}\n`,
  },
}, async ({ page, served, until, text, faults }) => {
  await page.goto(served.url);
  await until(`${OPEN} && document.querySelector("#samples p") !== null`);
  const plain = NASTY.replace("\u202e", "").replace("\u001b", "");
  assert.equal(await text("#samples article p:nth-of-type(1)"), plain);
  assert.equal(await text("#samples article p:nth-of-type(2)"), plain);
  assert.equal(await text("#configuration"), `model: ${plain}\n`);
  assert.equal(await text("#runs label"), "<b onclick=x>run");
  assert.equal(await page.evaluate("document.querySelectorAll('img, b').length"), 0);
  await page.select("#evaluation", "0");
  await until("document.querySelector('#samples article p:nth-of-type(2)').textContent === 'old'");
  assert.deepEqual(faults, []);
});

pageTest("charts are read and zoomed by the keyboard", {
  run: { "metrics.jsonl": metricsLines(1, 4000) },
}, async ({ page, served, until }) => {
  await page.setViewport(LAPTOP);
  await page.goto(served.url);
  await until(OPEN);
  await page.focus("#chart-loss [role=slider]");
  await page.keyboard.press("Home");
  await until(`${words("loss")}.startsWith("step ")`);
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
  const place = await page.evaluate(words("loss")) as string;
  const [, step] = /^step (\d+): run 1\.00/.exec(place) ?? assert.fail(place);
  assert.ok(Number(step) > 300 && Number(step) < 500, place);
  const least = 'Number(document.querySelector("#chart-loss [role=slider]").ariaValueMin)';
  await page.keyboard.press("+");
  await until(`${least} > 900`);
  await page.keyboard.press("0");
  await until(`${least} < 10`);
  await page.select("#axis", "tokens");
  await until(`${words("loss")}.includes("tokens") || ${words("loss")}.includes("Last")`);
  await until('document.querySelector("#chart-loss [role=slider]").ariaValueMax > 390000');
  await page.click("#log");
  await page.click("#runs input");
  await until(`${words("loss")} === "Last: no values" || ${words("loss")}.endsWith("no values")`);
});

pageTest("everything to press has a name, and every chart a description", TWO, async (shown) => {
  const { page, served, until } = shown;
  await page.goto(served.url);
  await until(OPEN);
  await until("document.querySelector('#memory meter') !== null");
  const tree = await page.accessibility.snapshot({ interestingOnly: false });
  const found: string[] = [];
  const visit = (node: typeof tree): void => {
    if (node === null) return;
    if (["button", "checkbox", "slider", "combobox", "textbox", "meter"].includes(node.role)) {
      assert.ok(node.name, `a ${node.role} has no name`);
      found.push(`${node.role} ${node.name}`);
    }
    for (const child of node.children ?? []) visit(child);
  };
  visit(tree);
  const expected = ["button Stop first", "checkbox first", "checkbox second", "slider Loss"]
    .concat("slider Smoothing", "combobox By", "button Zoom in", "meter total");
  for (const name of expected) {
    assert.ok(found.some((other) => other.startsWith(name)), `${name}: ${found}`);
  }
  assert.ok(!found.includes("button Stop second"), "a finished run has none");
});

pageTest("a stop is asked for twice, and becomes a file of the run", TWO, async (shown) => {
  const { page, served, until, folders: [folder] } = shown;
  const stop = join(folder, "stop");
  await page.goto(served.url);
  await until(OPEN);
  await page.click("#runs .danger");
  await until("document.querySelector('#stop').open");
  await page.keyboard.press("Escape");
  assert.throws(() => Deno.lstatSync(stop), Deno.errors.NotFound);
  await page.click("#runs .danger");
  await page.click("#stop-yes");
  await until(`${cell("State")} === "asked to stop"`);
  assert.equal(Deno.readTextFileSync(stop), "stop");
});

pageTest("without its token the page shows nothing, until it is given", TWO, async (shown) => {
  const { page, served, until } = shown, url = new URL(served.url);
  await page.goto(url.origin);
  await until("!document.querySelector('#token-form').hidden");
  assert.ok(await page.evaluate("document.querySelector('#content').hidden"));
  assert.equal(await page.evaluate("document.querySelector('#runs').textContent"), "");
  await page.type("#token", served.url);
  await page.keyboard.press("Enter");
  await until(OPEN);
  assert.ok(await page.evaluate("document.querySelector('#token-form').hidden"));
  await page.goto(served.url);
  await until(OPEN);
  assert.equal(await page.evaluate("location.href"), `${url.origin}/`, "the token is taken away");
  await page.reload();
  await until(OPEN);
});

pageTest("the end of the program is said, and what was shown stays", TWO, async (shown) => {
  const { page, served, until } = shown;
  await page.goto(served.url);
  await until(OPEN);
  await served.close();
  await page.evaluate("dispatchEvent(new Event('resize'))");
  await until("document.querySelector('#state').textContent.startsWith('No answer')");
  assert.equal(await page.evaluate(cell("Step")), "40");
});
