from .checks import (
    FAULT as FAULT,
    LINE as LINE,
    PLACE as PLACE,
    Checked as Checked,
    Field as Field,
    Rule as Rule,
    check as check,
    moment as moment,
    name as name,
    not_before as not_before,
    number as number,
    one_of as one_of,
    text as text,
    value_of as value_of,
)
from .files import files_of as files_of, read_rows as read_rows
from .schema import TableSpec as TableSpec, recognise as recognise, table_specs as table_specs
