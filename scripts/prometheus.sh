#!/usr/bin/env bash
# Unpack Debian's prometheus and promtool into .envs/prometheus, for the tests that ask PromQL of the real engine.
# Nothing is installed, no service starts, and no right of root is needed. Without apt-get those tests are skipped by name.
set -euo pipefail
cd "$(dirname "$0")/.."
env=$PWD/.envs/prometheus
command -v apt-get dpkg >/dev/null || { echo "prometheus: no apt-get on this machine" >&2; exit 1; }

rm -rf "$env"
mkdir -p "$env/download/lists/partial" "$env/download/cache/archives/partial"
cd "$env/download"
download() { apt-get "$@" -o APT::Sandbox::User="" download prometheus >/dev/null 2>&1; }
own=(-o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache") # a machine without package lists: lists of our own
download -q || { apt-get -q "${own[@]}" update >/dev/null 2>&1 && download -q "${own[@]}"; } ||
  { echo "prometheus: apt-get could not download Debian's package" >&2; exit 1; }
dpkg -x prometheus_*.deb ..
mv ../usr/bin ../bin
rm -rf ../usr ../etc ../lib ../var ../download
touch ../.ready
