# The beginning of a bundle, after the lines in which scripts/bundle.ts says what is inside: unpacks it at the first
# start, and runs the launcher in it.
#
# shellcheck shell=sh disable=SC2154 # those lines set name, system, deno_version, megabytes, decompress and offset
set -eu

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

# Whether $1 is a folder of this user, no link to one, that nobody else may write.
is_ours() {
  [ -d "$1" ] && [ ! -L "$1" ] || return 1
  # shellcheck disable=SC2012,SC2046 # one line, of which the columns before the name are words
  set -- $(ls -ldn -- "$1")
  [ "$3" = "$(id -u)" ] || return 1
  case $1 in ?????w* | ????????w*) return 1 ;; esac
}

refuse_foreign() {
  fail "$1 belongs to another user, or others may write there: remove it, or name another folder in XDG_CACHE_HOME."
}

# What a start on this machine left here when it was killed.
remove_leftovers() {
  for left in "$store/.unpacking.$host".*; do
    [ -d "$left" ] || continue
    kill -0 "${left##*.}" 2>/dev/null || rm -rf -- "$left"
  done
}

# Makes the folder that bundles are unpacked to.
make_store() {
  mkdir -p -- "$cache" 2>/dev/null || return 1
  mkdir -m 700 -- "$store" 2>/dev/null || [ -d "$store" ] || return 1
  [ -w "$store" ]
}

# Unpacks into `scratch`, and prints what is wrong. What follows the archive's end is read, too: who writes it would fail else.
extract() {
  { tail -c "+$offset" -- "$self" | $decompress || : >"$scratch/damaged"; } |
    (umask 022 && tar -x -o -f - -C "$scratch" && cat >/dev/null) || return 1
  [ ! -e "$scratch/damaged" ]
}

# Unpacks beside the folder and renames, so that the folder is there in whole or not at all. Of two starts at once one
# renames first, and the other finds that a folder with files can't be replaced.
unpack() {
  make_store ||
    fail "$store can't be written to unpack Lorikeet: name a folder that you may write in XDG_CACHE_HOME."
  is_ours "$store" || refuse_foreign "$store"
  host=$(uname -n)
  remove_leftovers
  scratch=$store/.unpacking.$host.$$
  trap 'rm -rf -- "$scratch"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' HUP TERM
  rm -rf -- "$scratch"
  mkdir -m 700 -- "$scratch"
  printf 'Unpacking Lorikeet into %s (%s MB, one time)...\n' "$folder" "$megabytes" >&2 || :
  said=$(extract 2>&1) ||
    fail "Lorikeet could not be unpacked into $store ($(printf '%s' "$said" | sed -n 1p)): expected $megabytes MB \
free there, and a whole file $self."
  inside=$("$scratch/$name/deno" --version 2>/dev/null | sed -n '1s/^deno \([0-9.]*\).*/\1/p')
  [ "$inside" = "$deno_version" ] ||
    fail "programs can't be run in $store (its file system may be mounted noexec), or this system lacks glibc: name \
another folder in XDG_CACHE_HOME."
  sync -f "$scratch" 2>/dev/null || sync
  mv -- "$scratch/$name" "$store/" 2>/dev/null || [ -d "$folder" ] || fail "$folder can't be made."
  rm -rf -- "$scratch"
  trap - EXIT INT HUP TERM
}

self=$0
case $self in */*) ;; *) [ -e "$self" ] || self=$(command -v -- "$self") ;; esac
[ "$(uname -sm)" = "$system" ] || fail "this file is for $system, and this machine is $(uname -sm)."
command -v "${decompress%% *}" >/dev/null || fail "there is no ${decompress%% *} on the PATH, by which this file is packed."

cache=${HOME:+$HOME/.cache}
case $system in Darwin*) cache=${HOME:+$HOME/Library/Caches} ;; esac
cache=${XDG_CACHE_HOME:-$cache}
case $cache in
  /*) ;;
  '') fail "there is no HOME to unpack Lorikeet into: name a folder that you may write in XDG_CACHE_HOME." ;;
  *) cache=$PWD/$cache ;;
esac
store=$cache/lorikeet-bundle
folder=$store/$name
[ -d "$folder" ] || unpack
is_ours "$store" || refuse_foreign "$store"
is_ours "$folder" || refuse_foreign "$folder"
exec "$folder/lorikeet" "$@"
exit # What follows is no script.
