"""Model versions in the MLflow registry: recorded, read and changed."""
