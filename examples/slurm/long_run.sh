#!/bin/bash
# A run that takes longer than a job may: it stops in time, saves its state, and the job goes back into the queue.
#
#   sbatch examples/slurm/long_run.sh                              the built-in example
#   sbatch examples/slurm/long_run.sh my.yaml --output runs/mine   a configuration and flags of yours
#
# The same job comes again under the same number, until the run is done. Whatever ended it in between (the time limit,
# a job that was preferred, a node that failed), the result has the same bytes as that of a run nobody stopped.

#SBATCH --job-name=lorikeet-long
# The limit of one part. Set it to what the partition allows, and no lower than what --signal takes of it.
#SBATCH --time=04:00:00
# USR2 comes 180 seconds before the limit, or up to half a minute earlier. B: sends it to this shell, as no other
# program of the job would get it. It leaves time for the step in work and for saving.
#SBATCH --signal=B:USR2@180
# The job may come again, and goes on writing the same log, which would else be emptied.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G

# What sites differ in: the second # of a line makes it a comment. Older sites have --gres=gpu:1 for --gpus=1.
##SBATCH --gpus=1
##SBATCH --partition=gpu
##SBATCH --account=my_course

# So many parts are enough for any run. A run that gets nowhere within a part would come again for ever.
most_restarts=200

# The number of the job stays, so each part finds the folder of the one before. `--resume auto` goes on from the
# newest state there, and begins where there is none.
./lorikeet train --resume auto --output "runs/$SLURM_JOB_NAME-$SLURM_JOB_ID" "${@:-examples/builtin.yaml}" &
run=$!

# The shell acts on a signal only between commands: so the run is in the background, and `wait` can be interrupted.
trap 'kill -USR2 "$run"' USR2 # from --signal: the time is nearly over
trap 'kill -TERM "$run"' TERM # from scancel, or for a job that is preferred
while kill -0 "$run" 2>/dev/null; do wait "$run"; done
trap - USR2 TERM
wait "$run" # tells the code of a run that has ended
code=$?

# 140 says that USR2 stopped the run and its state is saved. Everything else ends the job: 0 is a run that is done, 143
# one that was cancelled, the others are errors, which would come again.
if [ "$code" -eq 140 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_restarts" ]; then
  echo "Part $((${SLURM_RESTART_COUNT:-0} + 1)) ends at $(date); the job goes back into the queue."
  scontrol requeue "$SLURM_JOB_ID" && exit 0
  echo "Slurm does not take it back. Submit it with --output as before, or use examples/slurm/chain.sh."
fi
exit "$code"
