/**
 * What each key of the configuration means for a run that is gone on with.
 *
 * @module
 */
import { KEYS, trainSchema } from "./schema.ts";

/** Whether a resumed run must have a key of the configuration as the run it goes on with. */
export type ResumeRule = typeof RESUME_RULES[number];
const RESUME_RULES = ["same", "allowed", "length", "contents", "free"] as const;
/** The rules of LoRA's keys that have one of their own; the others have that of `lora`. */
const LORA_RULES: Readonly<Record<string, ResumeRule>> = {
  "lora.dropout": "allowed",
  "lora.plus_ratio": "allowed",
};

/** Every key's rule; a key that says none is a mistake of the schema, which a test looks for. */
export function resumeRules(): Map<string, ResumeRule | undefined> {
  return new Map(
    Object.entries(trainSchema.shape).map(([key, schema]) => {
      const rule = schema.meta()?.resume;
      return [key, RESUME_RULES.find((known) => known === rule)];
    }),
  );
}

/** The rule of a key, also of one in a group; of a key that there is no more, that it must be the same. */
export function resumeRule(key: string): ResumeRule {
  return LORA_RULES[key] ?? resumeRules().get(key.split(".")[0]) ?? "same";
}

/** Whether `allow_change` may name a key. */
export function mayBeAllowed(key: string): boolean {
  return ["allowed", "length", "contents"].includes(resumeRule(key));
}

/** The keys that `allow_change` may name. */
export function allowableKeys(): string[] {
  return KEYS.map(({ name }) => name).filter(mayBeAllowed);
}
