#!/usr/bin/env bash
# Resolve pyproject.toml into one lock file for each environment: hashes, all platforms, no index line.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .envs/bootstrap/bin/uv)
lock() {
  local name=$1
  shift
  "$uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    pyproject.toml --group build "$@" -o "requirements/$name.txt"
}
stages=(--extra forecast --extra plan --group test)
lock core "${stages[@]}" --extra cloud --group clouds --group lint --group servers --group peers
lock airflow "${stages[@]}" --extra airflow --extra kubernetes --group pods
for older in airflow31 airflow32; do
  lock "$older" "${stages[@]}" --extra airflow --extra kubernetes --group pods -c "requirements/$older.in"
done
lock kfp "${stages[@]}" --extra kfp --extra kubernetes --extra postgres
lock docs --group docs
