/**
 * Headers of answers: what a browser may do with them.
 *
 * @module
 */
import type { MiddlewareHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";

/** No other page shows an answer or loads anything of it. */
const ALONE = {
  xFrameOptions: "DENY",
  referrerPolicy: "no-referrer",
  crossOriginResourcePolicy: "same-origin",
  crossOriginOpenerPolicy: "same-origin",
  strictTransportSecurity: false,
} as const;

/** Headers of data: shown by themselves, they load nothing. */
export function dataHeaders(): MiddlewareHandler {
  return secureHeaders({
    ...ALONE,
    contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
  });
}

/**
 * Headers of a page: it loads nothing from elsewhere, and runs no text as a script.
 *
 * @param policies Names of who may make HTML of text (https://www.w3.org/TR/trusted-types/).
 */
export function pageHeaders(...policies: string[]): MiddlewareHandler {
  return secureHeaders({
    ...ALONE,
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'"],
      connectSrc: ["'self'"],
      baseUri: ["'none'"],
      formAction: ["'none'"],
      frameAncestors: ["'none'"],
      requireTrustedTypesFor: ["'script'"],
      trustedTypes: policies.length > 0 ? policies : ["'none'"],
    },
  });
}
