from .arguments import GangArguments as GangArguments
from .gang import Slots as Slots, SlotsField as SlotsField, gang as gang
from .holding import OnNotice as OnNotice, hold as hold
