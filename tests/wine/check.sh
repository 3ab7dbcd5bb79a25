#!/usr/bin/env bash
# Runs lorikeet.cmd under wine, with a program that stands for Deno, and says what differs from what is expected.
# Not part of CI: it needs Debian's `wine64` and `gcc-mingw-w64-x86-64-win32`.
# Usage, from anywhere: tests/wine/check.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'wineserver -k 2>/dev/null || true; rm -rf "$work"' EXIT
export WINEPREFIX=$work/prefix WINEDEBUG=-all

project="$work/pro ject"
mkdir -p "$project/scripts/launch" "$work/on path" "$work/npm"
crlf() { sed 's/\r*$/\r/' "$1" >"$2"; }
crlf "$root/lorikeet.cmd" "$project/lorikeet.cmd"
crlf "$root/scripts/launch/install_deno.cmd" "$project/scripts/launch/install_deno.cmd"
cp "$root/scripts/launch/deno_versions.txt" "$project/scripts/launch/"
read -r _ pinned <"$root/scripts/launch/deno_versions.txt"
x86_64-w64-mingw32-gcc -O1 -o "$work/on path/deno.exe" "$here/stand_in.c"
cat >"$work/npm.txt" <<NPM
@echo off
if defined NPM_FAILS exit /b 1
if not exist package.json exit /b 1
mkdir node_modules\\@deno\\win32-x64
copy "Z:${work//\//\\}\\on path\\deno.exe" node_modules\\@deno\\win32-x64\\deno.exe >nul
NPM
crlf "$work/npm.txt" "$work/npm/npm.cmd"
wineboot -i >/dev/null 2>&1

windows() { printf 'Z:%s' "${1//\//\\}"; }
failures=0

# Runs lorikeet.cmd with the PATH $1 and the arguments after it; sets `said` and `status`.
run() {
  local path=$1
  shift
  status=0
  said=$(cd "$project" && WINEPATH=$(windows "$path") timeout 60 wine cmd /c lorikeet.cmd "$@" 2>&1 | tr -d '\r') ||
    status=$?
}

# Says whether the status is $2, and whether every further argument is a line of what was said.
expect() {
  local name=$1 line good=1
  [ "$status" -eq "$2" ] || good=0
  shift 2
  for line in "$@"; do grep -qxF -- "$line" <<<"$said" || good=0; done
  if [ $good -eq 1 ]; then
    printf 'ok      %s\n' "$name"
  else
    printf 'FAILED  %s (status %s)\n%s\n' "$name" "$status" "$said"
    failures=$((failures + 1))
  fi
}

# Says whether .deno has nothing but the names after $1.
expect_kept() {
  local kept
  kept=$(ls -A "$project/.deno" 2>/dev/null || true)
  shift
  [ "$kept" = "$*" ] || { printf 'FAILED  .deno has: %s\n' "$kept" && failures=$((failures + 1)); }
}

root_there=$(windows "$project")
STAND_IN_EXIT=7 run "$work/on path" train "my config.yaml" --output=a 'x ^ & y' '!h'
expect "Deno on the PATH, arguments and exit code" 7 '[run]' '[--allow-all]' "[$root_there\\deno.json]" \
  "[$root_there\\scripts\\launch.ts]" "[$root_there\\.]" '[Windows AMD64]' "[$(windows "$work/on path")\\deno.exe]" \
  '[train]' '[my config.yaml]' '[--output=a]' '[x ^ & y]' '[!h]' 'DENO_DIR=unset' 'DENO_TLS_CA_STORE=system,mozilla'
STAND_IN_OLD=1 run "$work/on path" train
expect "Deno too old, no npm" 1 "error: Lorikeet needs Deno 2.9 or newer, and the PATH has none, and no npm to \
install it with: put deno or npm on the PATH."
NPM_FAILS=1 run "$work/npm" train
expect "npm fails" 1 "error: Lorikeet needs Deno 2.9 or newer, and the PATH has none, and npm could not install \
@deno/win32-x64@$pinned."
expect_kept "npm fails" ""
run "$work/npm" train
expect "npm installs" 0 "Installing Deno $pinned from npm (one time)..." \
  "[$root_there\\.deno\\$pinned\\deno.exe]" '[train]'
expect_kept "npm installs" "$pinned"
run "$work/nothing" --help
expect "what was installed is found again" 0 "[$root_there\\.deno\\$pinned\\deno.exe]" '[--help]'
exit $((failures > 0))
