/** The keys of objectives: their defaults, and what an objective has no use for. */
import assert from "node:assert/strict";
import { makeTrainConfig } from "../../../train/config/config.ts";
import { example, parse, refused } from "./config_parsing.ts";
import { parseTrainArguments } from "../../../train/config/config.ts";

Deno.test("objectives: each has its own keys with their defaults, and no others", () => {
  const keys = ["beta", "loss_type", "label_smoothing", "length_normalization"] as const;
  const others = ["simpo_gamma", "desirable_weight", "undesirable_weight"] as const;
  const of = (...args: string[]) => {
    const config = parse(...args);
    return Object.fromEntries(
      [...keys, ...others].flatMap((key) => config[key] === undefined ? [] : [[key, config[key]]]),
    );
  };
  const sigmoid = { beta: 0.1, loss_type: "sigmoid", label_smoothing: 0 };
  assert.deepEqual(of(), {});
  assert.deepEqual(of("--objective", "dpo"), { ...sigmoid, length_normalization: false });
  assert.deepEqual(of("--objective", "dpo", "--loss-type", "ipo"), {
    ...sigmoid,
    loss_type: "ipo",
    length_normalization: true,
  });
  assert.deepEqual(of("--objective", "orpo", "--beta", "0.3"), { beta: 0.3 });
  assert.deepEqual(of("--objective", "kto", "--batch-size", "4"), {
    beta: 0.1,
    desirable_weight: 1,
    undesirable_weight: 1,
  });
  assert.deepEqual(of("--objective", "simpo", "--no-length-normalization"), {
    beta: 2,
    simpo_gamma: 0.5,
    label_smoothing: 0,
    length_normalization: false,
  });
  // A configuration with all defaults filled in is one itself.
  const { lora: _, ...config } = parse("--objective", "simpo"),
    { lora, ...again } = makeTrainConfig(config);
  assert.ok(lora);
  assert.deepEqual(again, config);
});

Deno.test("objectives: keys of others, and what a reference needs, are refused by name", () => {
  refused(
    () => parse("--beta", "1"),
    /^beta is 1 but objective is sft, which has no such key; expected objective dpo, orpo, kto or simpo$/,
  );
  refused(
    () => parse("--objective", "orpo", "--loss-type", "ipo", "--simpo-gamma", "1"),
    /^loss_type is "?ipo"? but objective is orpo, .* expected objective dpo$/,
    /^ *simpo_gamma is 1 but objective is orpo, .* expected objective simpo$/,
  );
  refused(
    () => parse("--objective", "dpo", "--loss-type", "hinge", "--label-smoothing", "0.1"),
    /^label_smoothing is 0\.1 but loss_type is hinge, which has none; expected loss_type sigmoid or robust$/,
  );
  refused(
    () => parse("--objective", "dpo", "--label-smoothing", "0.5"),
    /label-smoothing is 0\.5; expected a number of at least 0 and less than 0\.5/,
  );
  for (const objective of ["dpo", "kto"]) {
    refused(
      () => parse("--objective", objective, "--lora", "off", "--batch-size", "2"),
      new RegExp(`^objective is ${objective} but lora is off: its reference is .* orpo or simpo$`),
    );
  }
  for (const objective of ["orpo", "simpo"]) parse("--objective", objective, "--lora", "off");
  refused(
    () => parse("--objective", "kto"),
    /^batch_size is 1 but objective is kto, .*; expected batch_size of at least 2$/,
  );
  refused(
    () => parse("--objective", "simpo", "--loss-normalization", "token"),
    /^loss_normalization is token but objective is simpo, .* or objective sft$/,
  );
  refused(
    () => parse("--objective", "ppo"),
    /objective is "?ppo"?; expected one of sft, dpo, orpo/,
  );
});

Deno.test("objectives: the example is right", () => {
  assert.equal(parseTrainArguments([example("preference.yaml")]).objective, "dpo");
});
