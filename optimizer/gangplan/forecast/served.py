"""The file that MLflow keeps with each model version and runs to load it (models from code)."""

from mlflow.models import set_model  # pyright: ignore[reportUnknownVariableType]

from gangplan.forecast.serving import ServedModel

set_model(ServedModel())
