#!/bin/bash
# One training run as one job of Slurm. Submit it from Lorikeet's folder, where the job then works:
#
#   sbatch examples/slurm/one_run.sh                               the built-in example
#   sbatch examples/slurm/one_run.sh my.yaml --output runs/mine    a configuration and flags of yours
#
# Flags of sbatch before the script's name win over the lines below: sbatch --time=04:00:00 examples/slurm/one_run.sh

#SBATCH --job-name=lorikeet
# The log: %x is the job's name, %j its number. A folder in this path has to exist.
#SBATCH --output=%x-%j.log
#SBATCH --time=00:30:00
#SBATCH --cpus-per-task=2
# Memory of the node, not of the GPU. A run that would need more is refused before it begins.
#SBATCH --mem=8G

# What sites differ in: the second # of a line makes it a comment. Older sites have --gres=gpu:1 for --gpus=1.
##SBATCH --gpus=1
##SBATCH --partition=gpu
##SBATCH --account=my_course

# `exec` puts the program into the place of this shell. Slurm sends SIGTERM to the shell alone, at the time limit and
# on scancel, and kills everything half a minute later: so the run hears it, saves its state, and ends with code 143.
exec ./lorikeet train --output "runs/$SLURM_JOB_NAME-$SLURM_JOB_ID" "${@:-examples/builtin.yaml}"
