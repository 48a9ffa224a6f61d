#!/bin/sh
# Install the locked packages of gangplan's extras into /opt/gangplan, less what no step uses: install.sh EXTRA...
set -eu
tools=/tools/build uv=/tools/usr/local/bin/uv
extras=$(printf -- '--extra %s ' "$@")

$uv venv -q /opt/gangplan
# shellcheck disable=SC2086 - words
$uv pip install -q --python /opt/gangplan --link-mode copy -c $tools/kfp.txt --excludes $tools/servers.txt \
  -r $tools/pyproject.toml $extras

cd /opt/gangplan/lib/python3*/site-packages
find . -type d -name tests -prune -exec rm -rf {} +
rm -rf mlflow/server/js                              # the web pages of MLflow's server
rm -rf pyarrow/*flight* pyarrow/include pyarrow/src  # Arrow's own network protocol, and what compilers read

# Nothing may be written beside the sources later. Byte code belongs to them by content: a layer's times do not count.
/opt/gangplan/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .
