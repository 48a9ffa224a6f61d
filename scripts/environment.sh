#!/usr/bin/env bash
# Build one of the environments (core, airflow, airflow31, airflow32, kfp, docs) from its lock file; brings uv along when the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
for python in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
  if fits "$python"; then break; fi
  python=""
done
if [ -z "$python" ]; then
  echo "python: $(python3 --version 2>&1 || true) does not fit: install Python 3.11, 3.12 or 3.13, or name one with PYTHON=/path/to/python make ..." >&2
  exit 2
fi

if ! uv=$(command -v uv); then
  uv=.envs/bootstrap/bin/uv
  if [ ! -x "$uv" ]; then
    echo "gangplan: uv is not here; installing it into .envs/bootstrap" >&2
    rm -rf .envs/bootstrap
    # Debian's python3 comes without ensurepip, so a plain --target install is the second way.
    "$python" -m venv .envs/bootstrap 2>/dev/null && .envs/bootstrap/bin/python -m pip install -q -r requirements/bootstrap.txt ||
      { rm -rf .envs/bootstrap; "$python" -m pip install -q --target .envs/bootstrap -r requirements/bootstrap.txt; }
  fi
fi

env=.envs/$name
echo "gangplan: building the $name environment in $env (downloads on the first time)" >&2
[ -x "$env/bin/python" ] || "$uv" venv -q --clear --python "$python" "$env"
# Compiled now: else every process compiles them again where Python may not write beside its sources.
"$uv" pip sync -q --compile-bytecode --require-hashes --python "$env" "requirements/$name.txt"
"$uv" pip install -q --python "$env" --no-deps --no-build-isolation -e .
touch "$env/.ready"
