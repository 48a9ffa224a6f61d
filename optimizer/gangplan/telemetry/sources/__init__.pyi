from .choose import load as load
from .sample import make_sample as make_sample
