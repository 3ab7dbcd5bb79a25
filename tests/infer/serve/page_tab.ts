/** The server's page in a browser, whose engine is the test itself. */
import { browserTest, LAPTOP, type Watched } from "../../watch/chromium.ts";
import type { ServeSettings } from "../../../infer/serve/messages.ts";
import { type Admission, type TestServer, withServer } from "./in_process.ts";

/** A tab with the page, and the server behind it. */
export interface PageTab extends Watched, TestServer {
  /** Waits until an expression of the page's is true. */
  until(expression: string): Promise<void>;
  /** Waits until the engine was told something of a kind. */
  untilTold: TestServer["until"];
  /** Types a message and sends it by the keyboard. */
  send(text: string): Promise<void>;
  /** Ids of a text that goes on from others. */
  ids(text: string): Promise<number[]>;
  /** The text of a prompt that the engine was given. */
  promptOf(admission: Admission): Promise<string>;
  /** Answers with a text, all at once. */
  answer(admission: Admission, text: string): Promise<void>;
  /** Presses the button of a name, within an element. */
  press(name: string, within?: string): Promise<void>;
}

/** Of the page's JavaScript: the text of an answer, by its turn and column, counted from 0. */
export const answerText = (turn: number, column = 0): string =>
  `document.querySelectorAll("#turns > li")[${turn}]` +
  `.querySelectorAll(".answer .text")[${column}].textContent.trim()`;

/** Whether nothing is being answered, after so many turns. */
export const idle = (turns: number): string =>
  `document.querySelectorAll("#turns > li").length === ${turns} && ` +
  `document.querySelectorAll("[aria-busy=true]").length === 0`;

/** Whether the page knows what is served. */
export const OPEN = "document.querySelector('#model-0').value !== ''";

/** A test of the page, which is open. */
export function pageTest(
  name: string,
  settings: Partial<ServeSettings>,
  body: (tab: PageTab) => Promise<void>,
): void {
  browserTest(
    `serve page: ${name}`,
    (tab) =>
      withServer({ context: 512, ...settings }, async (server) => {
        const { page } = tab;
        const asked = async (path: string, request: object) =>
          JSON.parse((await server.post(path, request)).text);
        const ids = async (text: string): Promise<number[]> => {
          const { tokens } = await asked("/tokenize", { prompt: text, add_special_tokens: false });
          return tokens;
        };
        try {
          await page.setViewport(LAPTOP);
          const url = `http://127.0.0.1:${server.port}/`;
          page.on("request", (request) => {
            if (!request.url().startsWith(url)) tab.faults.push(`asks ${request.url()}`);
          });
          await page.goto(url);
          if ((settings.keys ?? []).length === 0) await tab.until(OPEN);
          await body({
            ...server,
            ...tab,
            untilTold: server.until,
            ids,
            send: async (text) => {
              await page.type("#prompt", text);
              await page.keyboard.press("Enter");
            },
            promptOf: async ({ prompt }) => (await asked("/detokenize", { tokens: prompt })).prompt,
            answer: async ({ id }, text) =>
              server.give({ id, ids: await ids(text), finished: "stop" }),
            press: async (name, within = "body") => {
              const button =
                `${within} ::-p-xpath(.//button[normalize-space()="${name}" and not(@hidden)])`;
              await page.locator(button).click();
            },
          });
        } finally {
          await page.close();
        }
      }),
  );
}
