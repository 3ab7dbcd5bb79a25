/**
 * Patterns that stand beside a format and say the same: zod, and with it npm's openai, writes both.
 *
 * @module
 */
import { z } from "zod";

/** What zod has for each format. What their patterns match is of the format, but for email's. */
const SCHEMAS: Readonly<Record<string, readonly z.ZodType[]>> = {
  "date": [z.iso.date()],
  "date-time": [z.iso.datetime(), z.iso.datetime({ offset: true })],
  "uuid": [z.uuid(), z.guid(), z.uuidv4(), z.uuidv6(), z.uuidv7()],
  "ipv4": [z.ipv4()],
  "email": [z.email()],
};

let known: ReadonlyMap<string, readonly unknown[]> | undefined;

/** Whether a pattern is one that zod writes beside a format. */
export function isOfFormat(pattern: unknown, format: unknown): boolean {
  known ??= new Map(
    Object.entries(SCHEMAS).map(([name, schemas]) => [
      name,
      schemas.map((schema) => z.toJSONSchema(schema).pattern),
    ]),
  );
  return known.get(String(format))?.includes(pattern) ?? false;
}
