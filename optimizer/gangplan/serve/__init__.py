"""What gangplan serves over HTTP: the page that a host mounts, and the receiver of MLflow's webhooks."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
