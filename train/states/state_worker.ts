/**
 * The thread that writes states; see state_writer.ts.
 *
 * @module
 */
import { stateWriter, type WriterMessage } from "./state_writer.ts";

self.addEventListener("message", (event) => {
  const port: MessagePort = (event as MessageEvent).data;
  const write = stateWriter((answer, transfer = []) => port.postMessage(answer, transfer));
  port.onmessage = ({ data }: MessageEvent<WriterMessage>) => write(data);
});
