from .checks import (
    Checked as Checked,
    Field as Field,
    Kind as Kind,
    Rule as Rule,
    check as check,
    judge as judge,
    moment as moment,
    name as name,
    not_before as not_before,
    number as number,
    one_of as one_of,
    read as read,
    text as text,
)
from .delimited import FAULT as FAULT, LINE as LINE, PLACE as PLACE, Layout as Layout
from .files import (
    ENDINGS as ENDINGS,
    OpenTable as OpenTable,
    files_of as files_of,
    is_table as is_table,
    open_table as open_table,
    read_rows as read_rows,
)
from .numbers import plain_numbers as plain_numbers, require_decimal as require_decimal
from .schema import (
    TableRows as TableRows,
    TableSpec as TableSpec,
    request_log as request_log,
    table_specs as table_specs,
)
from .times import (
    READ as READ,
    Moments as Moments,
    read_times as read_times,
    require_zone as require_zone,
    value_of as value_of,
)
