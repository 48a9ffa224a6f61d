#!/bin/sh
# Leave out of an environment what no step uses, and compile the rest: slim.sh ENVIRONMENT.
set -eu
cd "$1"/lib/python3*/site-packages

find . -type d -name tests -prune -exec rm -rf {} +
rm -rf mlflow/server/js                                # the web pages of MLflow's server
rm -rf pyarrow/*flight* pyarrow/include pyarrow/src    # Arrow's own network protocol, and what compilers read
# A fifth of it are symbols. Libraries that were repaired for a wheel (patchelf) break when they are stripped.
find . -path './_polars_runtime*' -name '*.so' -exec strip --strip-unneeded {} +

# Nothing may be written beside the sources later. The code belongs to its source by content: a layer's times do not count.
"$1"/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .
