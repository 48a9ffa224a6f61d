"""The MLflow store through which stages hand over: experiments, runs, tables as artifacts with a sha256 tag."""

import os

from gangplan.extras import lazy_face

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # set before MLflow is imported, so that it sends nothing
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # the command line draws its own
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # MLflow would print the server's URL with the password in it
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)

__getattr__, __dir__ = lazy_face(__name__, __file__)
