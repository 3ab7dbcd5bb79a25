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
  /** The text of an element. */
  text(selector: string): Promise<string>;
  /** Waits until an expression of the page's is true. */
  until(expression: string): Promise<void>;
}

/** A page that notes what its console says, and whatever it asks of another machine than this one. */
async function watched(browser: BrowserContext): Promise<Watched> {
  const page = await browser.newPage(), faults: string[] = [];
  page.on("console", (message) => faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith("http://127.0.0.1:")) faults.push(`asks ${request.url()}`);
  });
  return {
    page,
    faults,
    text: (selector) => page.$eval(selector, (element) => element.textContent ?? ""),
    until: async (expression) => {
      await page.waitForFunction(expression, { timeout: 30_000, polling: 50 });
    },
  };
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

/**
 * A test with a new tab, which is ignored where there is no browser.
 *
 * @param missing What else it needs that is not there.
 */
export function browserTest(
  name: string,
  body: (tab: Watched) => Promise<void>,
  missing?: string,
): void {
  const lacks = executablePath ? missing : "no Chromium";
  Deno.test({
    name: lacks ? `${name} (ignored: ${lacks})` : name,
    ignore: lacks !== undefined,
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
