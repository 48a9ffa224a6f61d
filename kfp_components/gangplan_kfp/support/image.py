"""The image that every component runs in: the gangplan wheel and kfp, nothing installed when a step starts."""

import os

from gangplan import __version__

IMAGE: str = os.environ.get("GANGPLAN_KFP_IMAGE", f"gangplan-python:{__version__}")
"""Read when a pipeline is compiled; set GANGPLAN_KFP_IMAGE to the name under which your cluster finds the image."""
