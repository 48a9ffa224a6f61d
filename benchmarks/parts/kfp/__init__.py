"""The parts of the benchmark of Kubeflow Pipelines."""
