from .convert import OfNoUse as OfNoUse, convert as convert
from .mapping import Column as Column, Mapping as Mapping, read_mapping as read_mapping, shipped as shipped
from .recognise import Reading as Reading, read_table as read_table
