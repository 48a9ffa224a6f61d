from .apply import apply_app as apply_app
from .controller import controller_app as controller_app
from .power import power_app as power_app
from .prices import prices_app as prices_app
from .steps_screen import cycle_run as cycle_run
