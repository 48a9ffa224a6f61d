from .bundle import GangplanDagBundle as GangplanDagBundle
from .stages import deadline as deadline, figures as figures, say_late as say_late, stage_settings as stage_settings
