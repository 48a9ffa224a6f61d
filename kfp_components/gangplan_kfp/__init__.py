"""gangplan's components for Kubeflow Pipelines: reserve a gang of GPU slots before a step, release it after.

A component's body only calls the installed package, since nothing but the body travels in the compiled pipeline. KFP
itself is imported with the first component: a step that only holds its slots starts without it.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
