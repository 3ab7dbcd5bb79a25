/**
 * The thread that listens for requests to stop; see stop_request.ts.
 *
 * @module
 */
import { stopListener } from "./stop_request.ts";

const listen = stopListener();
self.addEventListener("message", (event) => listen((event as MessageEvent).data));
