/** The job scripts of examples/slurm/ on a cluster of this machine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exists, lorikeet, smallData, succeeded, TemporaryFolder, TOKENIZER } from "../cli/cli.ts";
import { SlurmCluster, wait, whyNoCluster } from "./cluster.ts";

const NO_CLUSTER = whyNoCluster();

function slurmTest(
  name: string,
  body: (cluster: SlurmCluster, folder: TemporaryFolder) => Promise<void>,
) {
  Deno.test({
    name: `slurm: ${name}${NO_CLUSTER === undefined ? "" : ` (ignored: ${NO_CLUSTER})`}`,
    ignore: NO_CLUSTER !== undefined,
    async fn() {
      using folder = new TemporaryFolder();
      await using cluster = await SlurmCluster.start();
      await body(cluster, folder);
    },
  });
}

slurmTest("one run, whose job's memory is what the plan has", async (cluster, folder) => {
  const data = folder.file("data.json", smallData(16)), output = folder.file("run");
  const TINY = [
    "--model",
    "random:tiny",
    "--tokenizer",
    TOKENIZER,
    "--data",
    data,
    "--output",
    output,
  ];
  const log = folder.file("log");
  const small = await cluster.run(
    "sbatch",
    "--parsable",
    "--cpus-per-task=1",
    "--mem=100",
    `--output=${log}`,
    "examples/slurm/one_run.sh",
    ...TINY,
  );
  await cluster.untilDone();
  console.log(Deno.readTextFileSync(log));
  const big = await cluster.run(
    "sbatch",
    "--parsable",
    "--cpus-per-task=1",
    "--mem=1000",
    `--output=${log}`,
    "examples/slurm/one_run.sh",
    ...TINY,
  );
  await cluster.untilDone();
  console.log(Deno.readTextFileSync(log));
});
