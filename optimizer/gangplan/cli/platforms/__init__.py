"""The commands about what gangplan runs on: a cluster, an Airflow, a Kubeflow Pipelines."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
