#!/usr/bin/env bash
# Unpack Debian packages into .envs/NAME, for tests that ask the real programs: scripts/debian.sh NAME PACKAGE...
# Nothing is installed, no service starts, and no right of root is needed. Without apt-get those tests are skipped by name.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 env=$PWD/.envs/$1
shift
command -v apt-get dpkg >/dev/null || { echo "$name: no apt-get on this machine" >&2; exit 1; }

rm -rf "$env"
mkdir -p "$env/download/lists/partial" "$env/download/cache/archives/partial"
cd "$env/download"
download() { apt-get "${@:2}" -o APT::Sandbox::User="" download $1 >/dev/null 2>&1; }
own=(-o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache") # a machine without package lists: lists of our own
download "$*" -q || { apt-get -q "${own[@]}" update >/dev/null 2>&1 && download "$*" -q "${own[@]}"; } ||
  { echo "$name: apt-get could not download $*" >&2; exit 1; }
for package in *.deb; do dpkg -x "$package" ..; done
rm -rf ../download ../etc ../var
find ../usr/share -mindepth 1 -maxdepth 1 ! -name mmdebstrap -exec rm -rf {} + # its hooks make Debian's own image
touch ../.ready
