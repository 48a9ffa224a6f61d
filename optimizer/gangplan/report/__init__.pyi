from .page import build as build
from .purchases import write as write
