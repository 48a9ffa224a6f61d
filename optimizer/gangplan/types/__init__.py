"""The values that stages hand over: frozen, keyword-only, checked when they are made.

    Usage -> Forecast -> Plan -> CapacityCalendar -> Reservation -> Outcome -> Beliefs -> (the next Forecast)

Tables inside them are Polars frames with the schemas of `gangplan.tables`. Polars itself comes with the extras
`forecast` and `plan`; the values of a reservation need nothing but the standard library.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
