#!/bin/bash
# The table of a sweep; sweep.sh says how it is submitted. Its argument is the folder of the runs.

#SBATCH --job-name=lorikeet-table
#SBATCH --output=%x-%j.log
#SBATCH --time=00:05:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G

##SBATCH --partition=cpu
##SBATCH --account=my_course

# Runs that failed, or that have not ended, are in the table with what they came to.
exec ./lorikeet compare "$1"/*/
