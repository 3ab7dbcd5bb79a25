/**
 * What an endpoint is made of.
 *
 * @module
 */
import type { OpenAPIHono } from "hono-openapi";
import { z } from "zod";
import type { Peer } from "../../../http/socket.ts";
import { invalidBody } from "../api_error.ts";
import type { Serving } from "../serving.ts";

/** The server's application. */
export type App = OpenAPIHono<{ Bindings: Peer; Variables: { client: string } }>;

/** Adds an endpoint to the application. */
export type Endpoint = (app: App, serving: Serving) => void;

/** A body of JSON that a request has to have. */
export function jsonBody<S extends z.ZodObject>(schema: S): {
  body: { required: true; content: { "application/json": { schema: S } } };
} {
  return { body: { required: true, content: { "application/json": { schema } } } };
}

/** What an endpoint answers with, besides errors, which all have one shape. */
export function answers(description: string): { 200: { description: string } } {
  return { 200: { description } };
}

/** Refuses bodies that are not of a schema, in words. */
export function bodyHook(
  schema: z.ZodObject,
): (result: { success: boolean; error?: z.ZodError }) => undefined {
  return (result) => {
    if (result.error !== undefined) throw invalidBody(result.error, Object.keys(schema.shape));
  };
}
