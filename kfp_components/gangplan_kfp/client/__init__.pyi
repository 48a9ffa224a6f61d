from .doctor import examine as examine
from .packages import (
    Package as Package,
    compile_into as compile_into,
    read_package as read_package,
    shipped as shipped,
)
from .runs import (
    Run as Run,
    find_run as find_run,
    gangs as gangs,
    newest_runs as newest_runs,
    submit as submit,
    wait as wait,
)
from .schedules import (
    Schedule as Schedule,
    When as When,
    delete as delete,
    disable as disable,
    schedule as schedule,
    schedules as schedules,
    when_from as when_from,
)
from .server import Server as Server, connect as connect
