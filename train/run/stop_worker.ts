/**
 * The thread that listens for requests to stop; see stop_request.ts.
 *
 * @module
 */
import { tolerateStderr } from "../../cli/tolerant_output.ts";
import { stopListener } from "./stop_request.ts";

tolerateStderr();
/** The thread as those see it who started it. */
const port = self as unknown as Worker;
const listen = stopListener(() => port.postMessage("listening"));
self.addEventListener("message", (event) => listen((event as MessageEvent).data));
