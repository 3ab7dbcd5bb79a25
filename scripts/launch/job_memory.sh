# How much memory a job leaves to the program that the launcher starts in it. The launcher asks, because Deno lets
# only a program that may do everything read /proc and /sys, and `Deno.systemMemoryInfo` knows the whole machine alone.
#
# `find_job_memory` exports LORIKEET_JOB_MEMORY, as "BYTES WHAT", with the least of what these leave:
#
#   control groups    the limits of the process's own and of all around it, of version 1 and 2
#   Slurm             the job's variables, which hold also where a site counts memory and doesn't confine it
#   rlimits           of the address space and of data
#
# The variable is unset where nothing is limited. Nothing here starts a program, as every start comes by.
#
# shellcheck shell=sh

# Bytes that Deno reserves or maps before a run takes any.
DENO_ADDRESS_SPACE=21474836480
DENO_DATA=1073741824
# Bytes of address space without which it ends while it starts.
DENO_START=36864000000

# Whether $1 is a number that limits something: version 1 has one of 19 digits, and version 2 "max", where none does.
is_limit() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  [ ${#1} -lt 18 ]
}

# Takes note that $2 leaves $1 bytes.
leaves() {
  room=$1
  [ "$room" -ge 0 ] || room=0
  if [ -z "$least" ] || [ "$room" -lt "${least%% *}" ]; then least="$room $2"; fi
}

# What the control group in the folder $1 leaves by its files $2, the limit, and $3, the usage. $4 begins the names in
# its memory.stat. Pages of cached files are counted as used, but the system takes them back when a program needs them.
group_leaves() {
  [ -r "$1/$2" ] && read -r limit <"$1/$2" && is_limit "$limit" || return 0
  used=0
  [ ! -r "$1/$3" ] || read -r used <"$1/$3"
  if [ -r "$1/memory.stat" ]; then
    while read -r name value; do
      case $name in "$4inactive_file" | "$4active_file") used=$((used - value)) ;; esac
    done <"$1/memory.stat"
  fi
  [ "$used" -ge 0 ] || used=0
  leaves $((limit - used)) "the control group ${level:-/}"
}

# Asks the control group $2 of the tree at $1 and all around it; $3 to $5 are for `group_leaves`. A group that was made
# outside the container has a path of which only the root is there.
groups_leave() {
  level=${2%/}
  case $level in */..*) level= ;; esac
  while :; do
    group_leaves "$1$level" "$3" "$4" "$5"
    [ -n "$level" ] || return 0
    level=${level%/*}
  done
}

# $1 holds the folders proc and sys.
control_groups_leave() {
  [ -r "$1/proc/self/cgroup" ] || return 0
  groups=$1/sys/fs/cgroup
  while IFS=: read -r number controllers path; do
    case $number:,$controllers, in
      0:,,)
        groups_leave "$groups" "$path" memory.max memory.current ''
        groups_leave "$groups/unified" "$path" memory.max memory.current ''
        ;;
      *,memory,*)
        groups_leave "$groups/memory" "$path" memory.limit_in_bytes memory.usage_in_bytes total_
        ;;
    esac
  done <"$1/proc/self/cgroup"
}

# Takes note of the variable $1 of Slurm, in MiB for each of $2. A job that may have a whole node has 0.
slurm_leaves() {
  size=
  eval "size=\${$1:-0}"
  if is_limit "$size" && is_limit "$2" && [ "$size" -gt 0 ]; then
    leaves $((size * $2 * 1048576)) "$1"
  fi
}

# Asks $1/proc/self/limits, which are the shell's, since it opens the file itself.
rlimits_leave() {
  [ -r "$1/proc/self/limits" ] || return 0
  while read -r _ first second soft _; do
    is_limit "$soft" || continue
    case "$first $second" in
      "data size") leaves $((soft - DENO_DATA)) "the limit of data, ulimit -d" ;;
      "address space")
        [ "$soft" -ge "$DENO_START" ] ||
          fail "the address space is limited to $soft bytes (ulimit -v), and Deno needs $DENO_START to start: \
expected a job without this limit, or with a larger one."
        leaves $((soft - DENO_ADDRESS_SPACE)) "the limit of the address space, ulimit -v"
        ;;
    esac
  done <"$1/proc/self/limits"
}

# $1 is where the folders proc and sys lie: nothing but for tests.
find_job_memory() {
  least=
  control_groups_leave "$1"
  slurm_leaves SLURM_MEM_PER_NODE 1
  slurm_leaves SLURM_MEM_PER_CPU "${SLURM_CPUS_ON_NODE:-}"
  slurm_leaves SLURM_MEM_PER_GPU "${SLURM_GPUS_ON_NODE:-}"
  rlimits_leave "$1"
  unset LORIKEET_JOB_MEMORY
  [ -z "$least" ] || export LORIKEET_JOB_MEMORY="$least"
}
