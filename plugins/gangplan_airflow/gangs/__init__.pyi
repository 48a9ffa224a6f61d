from .arguments import GangArguments as GangArguments, GangTaskArguments as GangTaskArguments
from .decorator import GangTask as GangTask, gang_task as gang_task, task as task
from .gang import Slots as Slots, SlotsField as SlotsField, gang as gang
from .holding import OnNotice as OnNotice, hold as hold
from .renew import RenewGangOperator as RenewGangOperator
from .sensor import GangSensor as GangSensor
