#!/bin/bash
# A long run as a chain of jobs, one after the other: for sites where a job may not go back into the queue by itself
# (long_run.sh), and where waiting for its turn again costs more than asking for all turns at once.
#
#   sbatch examples/slurm/chain.sh                                              the built-in example
#   sbatch --array=1-20%1 examples/slurm/chain.sh my.yaml --output runs/mine    twenty parts

#SBATCH --job-name=lorikeet-chain
# Up to eight parts; %1 lets one of them run at a time. A part that finds the run done ends at once.
#SBATCH --array=1-8%1
#SBATCH --time=04:00:00
# USR2 comes 180 seconds before the limit, or up to half a minute earlier; B: sends it to this shell, whose place the
# run takes below. The run saves its state and ends with code 140.
#SBATCH --signal=B:USR2@180
# %A is the number of the chain. All parts write one log, each at its end.
#SBATCH --output=%x-%A.log
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G

# What sites differ in: the second # of a line makes it a comment. Older sites have --gres=gpu:1 for --gpus=1.
##SBATCH --gpus=1
##SBATCH --partition=gpu
##SBATCH --account=my_course

echo "Part $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_MAX begins at $(date)."

# Each part goes on from the newest state in the chain's folder.
exec ./lorikeet train --resume auto --output "runs/$SLURM_JOB_NAME-$SLURM_ARRAY_JOB_ID" "${@:-examples/builtin.yaml}"
