from .choose import Cache as Cache, load as load
from .mlflow_events import TaggedRun as TaggedRun, tagged_runs as tagged_runs
from .prometheus import read_containers as read_containers
from .sample import make_sample as make_sample
