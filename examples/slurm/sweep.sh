#!/bin/bash
# A run for each pair of a learning rate and a seed, side by side as far as the cluster has room, and a table of all:
#
#   sweep=$(sbatch --parsable examples/slurm/sweep.sh)
#   sbatch --dependency="afterany:$sweep" examples/slurm/sweep_table.sh "runs/sweep-$sweep"
#
# The second job waits until all runs of the first have ended. Arguments after sweep.sh go to each run, as in
# one_run.sh: sbatch --parsable examples/slurm/sweep.sh my.yaml --epochs 3

#SBATCH --job-name=lorikeet-sweep
# One job for each pair, numbered from 0: 3 learning rates times 3 seeds.
#SBATCH --array=0-8
# %A is the number of the array, %a that of the job in it.
#SBATCH --output=%x-%A_%a.log
#SBATCH --time=00:30:00
# Where a job comes again, because another was preferred or a node failed, its run goes on from its state.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G

# What sites differ in: the second # of a line makes it a comment. Older sites have --gres=gpu:1 for --gpus=1.
##SBATCH --gpus=1
##SBATCH --partition=gpu
##SBATCH --account=my_course

rates=(5e-4 2e-3 8e-3)
seeds=(1 2 3)

rate=${rates[SLURM_ARRAY_TASK_ID / ${#seeds[@]}]}
seed=${seeds[SLURM_ARRAY_TASK_ID % ${#seeds[@]}]}

exec ./lorikeet train "${@:-examples/builtin.yaml}" --learning-rate "$rate" --seed "$seed" --resume auto \
  --output "runs/sweep-$SLURM_ARRAY_JOB_ID/rate$rate-seed$seed"
