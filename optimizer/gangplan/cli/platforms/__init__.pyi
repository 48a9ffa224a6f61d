from .airflow import airflow_app as airflow_app
from .kfp import kfp_app as kfp_app
from .kube import kube_app as kube_app
