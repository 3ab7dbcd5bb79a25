/** Chromium without a window, for tests of the page. */
import { join } from "node:path";
import puppeteer, { type Browser, type BrowserContext, type Page } from "puppeteer-core";

/** Where Chromium and its kin are on the PATH; undefined where they are not. */
function findChromium(): string | undefined {
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    for (const name of names) {
      const path = join(folder, name);
      try {
        if (Deno.statSync(path).isFile) return path;
      } catch {
        // not there
      }
    }
  }
}

const executablePath = findChromium();

/** Sizes of a phone and of a laptop, in px. */
export const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };
export const LAPTOP = { width: 1280, height: 800 };

/** What a page did that it should not, as it happened. */
export interface Watched {
  page: Page;
  faults: string[];
}

/** A page that notes errors, refusals and whatever it asks of another machine than this one. */
async function watched(browser: BrowserContext): Promise<Watched> {
  const page = await browser.newPage(), faults: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warn") faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith("http://127.0.0.1:")) faults.push(`asks ${request.url()}`);
  });
  return { page, faults };
}

let browser: Promise<Browser> | undefined;

/** The browser of all tests of a file, started with the first. */
function theBrowser(): Promise<Browser> {
  return browser ??= puppeteer.launch({
    executablePath,
    pipe: true,
    // As root, as in CI, Chromium has no sandbox; the page is our own.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
}

Deno.test.afterAll(async () => await (await browser)?.close());

/** A test with a new tab, which is ignored where there is no browser. */
export function browserTest(name: string, body: (tab: Watched) => Promise<void>): void {
  Deno.test({
    name: executablePath ? name : `${name} (ignored: no Chromium)`,
    ignore: executablePath === undefined,
    // The browser and its pipes outlive a test.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const context = await (await theBrowser()).createBrowserContext();
      try {
        await body(await watched(context));
      } finally {
        await context.close();
      }
    },
  });
}
