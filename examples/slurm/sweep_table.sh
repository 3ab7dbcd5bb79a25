#!/bin/bash
# The table of a sweep; sweep.sh says how it is submitted. Its argument is the folder of the runs.

#SBATCH --job-name=lorikeet-table
#SBATCH --output=%x-%j.log
#SBATCH --time=00:05:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G

##SBATCH --partition=cpu
##SBATCH --account=my_course

# Runs that failed, or that never began, have no summary: the table is of the others.
exec ./lorikeet compare "$1"/*/
