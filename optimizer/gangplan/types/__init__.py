"""The values that stages hand over: frozen, keyword-only, checked when they are created.

    Usage -> Forecast -> Plan -> CapacityCalendar -> Reservation -> Outcome -> Beliefs -> (the next Forecast)

Tables inside them are Polars frames with the schemas of `gangplan.tables`. Polars comes with the extras `forecast` and
`plan`; the values of a reservation need the standard library only.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
