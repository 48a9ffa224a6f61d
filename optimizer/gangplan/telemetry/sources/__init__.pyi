from .choose import load as load
