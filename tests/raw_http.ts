/** Requests as bytes on a socket, which no client puts right. */

/** What is asked. */
export interface RawRequest {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** What is answered. */
export interface RawAnswer {
  status: number;
  headers: Headers;
  text: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Asks; a header that is empty is left out. */
export async function askRaw(
  port: number,
  { method = "GET", path = "/", headers = {}, body = "" }: RawRequest,
): Promise<RawAnswer> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const lines = Object.entries(headers).filter(([, value]) => value !== "");
  const head = [
    `${method} ${path} HTTP/1.1`,
    ...lines.map(([name, value]) => `${name}: ${value}`),
    "Connection: close",
  ];
  const bytes = new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n${body}`);
  // A server may answer before it has read all, and reads no further then.
  const written = writeAll(connection, bytes).catch(() => {});
  const answer = await answerFrom(connection);
  connection.close();
  await written;
  return answer;
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
}

/** An answer, read to its end and no further: a server may still wait for a body that it has refused. */
async function answerFrom(connection: Deno.Conn): Promise<RawAnswer> {
  let bytes = new Uint8Array(0);
  for await (const piece of connection.readable.values({ preventCancel: true })) {
    bytes = new Uint8Array([...bytes, ...piece]);
    const text = new TextDecoder("latin1").decode(bytes), end = text.indexOf("\r\n\r\n");
    if (end < 0) continue;
    const [first, ...fields] = text.slice(0, end).split("\r\n");
    const headers = new Headers(fields.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as [string, string];
    }));
    const content = bytes.slice(end + 4);
    if (content.length < Number(headers.get("content-length") ?? 0)) continue;
    const status = Number(first.split(" ")[1]);
    return { status, headers, text: new TextDecoder().decode(content), bytes: content };
  }
  throw new Error("the connection ended before the answer");
}
