"""A request as plain values by field name, and back: the one reader of what a person, a template or a row says.

The fields are those of `GangRequest`; what is read and written of each follows from its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeGuard

from gangplan.clock import NO_DURATION, parse_factors, parse_span, parse_utc
from gangplan.errors import InputError
from gangplan.types.demand import WorkloadClass
from gangplan.types.gang import GangRequest, PodSet, Topology

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

Read: TypeAlias = Callable[[str, Any, timedelta], Any]
"""Reads a value of a field; what it cannot read is returned as it is, for `GangRequest` to refuse."""

Write: TypeAlias = Callable[[Any], Any]
"""Returns a field's value as JSON can hold it."""


def request_from(
    given: Mapping[str, Any], *, called: Mapping[str, str] | None = None, unit: timedelta = _SECOND
) -> GangRequest:
    """Read a request; refuse a field that is unknown, missing or wrong.

    Parameters
    ----------
    given
        Values by the names of the request's fields. Each may be of the field's own type, or text as it is written on a
        command line (`2h`, `2026-03-01T12:00:00Z`, `h100=2`, `rack:preferred`), or as `request_fields` gives it. None
        is the field's default.
    called
        What the caller calls a field (`{"pod_sets.count": "pods"}`), for the errors.
    unit
        What a plain number counts in durations, and in moments since 1970.
    """
    try:
        return _request(given, unit)
    except InputError as error:
        raise error.renamed((called or {}).get(error.field, error.field)) from None


def _request(given: Mapping[str, Any], unit: timedelta) -> GangRequest:
    for name in given:
        if name not in _READ:
            raise InputError.unknown("request", name, "no field of a request", _READ)
    for name in _READ:
        if name not in _DEFAULTS and given.get(name) is None:
            raise InputError.missing(name, None)
    return GangRequest(**{name: _READ[name](name, value, unit) for name, value in given.items() if value is not None})


def request_fields(request: GangRequest, *, defaults: bool = True) -> dict[str, Any]:
    """Return a request's fields as JSON can hold them, in their order; read them back with a microsecond as unit.

    Durations, and moments since 1970, are in microseconds. With `defaults` off, fields at their default are left out.
    """
    plain = {name: _plain(name, getattr(request, name)) for name in _WRITE}
    return {name: value for name, value in plain.items() if defaults or value != _DEFAULTS.get(name, MISSING)}


# ---------------------------------------------------------------- reading, by type


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _as_it_is(field: str, value: Any, unit: timedelta) -> Any:
    return value


def _span(field: str, value: Any, unit: timedelta) -> Any:
    if isinstance(value, str):
        return parse_span(field, value)
    return _times(field, value, unit)


def _moment(field: str, value: Any, unit: timedelta) -> Any:
    if isinstance(value, str):
        return parse_utc(field, value)
    since = _times(field, value, unit)
    try:
        return _EPOCH + since if isinstance(since, timedelta) else since
    except OverflowError:
        raise InputError(field, value, "is past every year that there is: give an earlier moment") from None


def _times(field: str, value: Any, unit: timedelta) -> Any:
    """Return so many units; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return value * unit
    except (OverflowError, ValueError):
        raise InputError(field, value, NO_DURATION) from None


def _whole(field: str, value: Any, unit: timedelta) -> Any:
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _flag(field: str, value: Any, unit: timedelta) -> Any:
    return _FLAGS.get(str(value).lower(), value)


def _names(field: str, value: Any, unit: timedelta) -> Any:
    return tuple(value) if _is_list(value) else value


def _factors(field: str, value: Any, unit: timedelta) -> Any:
    if isinstance(value, str):
        return parse_factors(field, value.split(","))
    if _is_mapping(value):
        return {name: _factor(f"{field}[{name}]", factor) for name, factor in value.items()}
    return parse_factors(field, map(str, value)) if _is_list(value) else value


def _factor(field: str, value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        raise InputError(field, value, "must be a number") from None


def _pod_sets(field: str, value: Any, unit: timedelta) -> Any:
    return tuple(_pod_set(field, pods) for pods in value) if _is_list(value) else value


def _pod_set(field: str, value: Any) -> Any:
    """Read a pod set from its fields by name, or in their order."""
    names = [part.name for part in fields(PodSet)]
    if _is_list(value) and len(value) == len(names):
        value = dict(zip(names, value, strict=True))
    if not _is_mapping(value):
        return value
    unknown = next((name for name in value if name not in names), None)
    if unknown is not None:
        raise InputError.unknown(field, unknown, "no field of a pod set", names)
    given = {"count": None, "gpus_per_pod": None, **value}
    return PodSet(**{name: _whole(name, number, _SECOND) for name, number in given.items()})


def _workload_class(field: str, value: Any, unit: timedelta) -> Any:
    if not isinstance(value, str):
        return value
    if value not in list(WorkloadClass):
        raise InputError.unknown(field, value, "unknown", WorkloadClass)
    return WorkloadClass(value)


def _topology(field: str, value: Any, unit: timedelta) -> Any:
    return Topology.from_text(value) if isinstance(value, str) else value


# ---------------------------------------------------------------- writing, by type


def _plain(field: str, value: Any) -> Any:
    return None if value is None else _WRITE[field](value)


def _same(value: Any) -> Any:
    return value


_BY_TYPE: dict[str, tuple[Read, Write]] = {
    "str": (_as_it_is, _same),
    "int": (_whole, _same),
    "bool": (_flag, _same),
    "timedelta": (_span, lambda span: span // _MICROSECOND),
    "datetime": (_moment, lambda moment: (moment - _EPOCH) // _MICROSECOND),
    "tuple[PodSet, ...]": (
        _pod_sets,
        lambda pod_sets: [[pods.count, pods.gpus_per_pod, pods.min_count, pods.max_count] for pods in pod_sets],
    ),
    "tuple[str, ...]": (_names, list),
    "dict[str, float]": (_factors, lambda by_name: dict(sorted(by_name.items()))),
    "dict[str, str]": (_as_it_is, lambda by_name: dict(sorted(by_name.items()))),
    "WorkloadClass": (_workload_class, str),
    "Topology": (_topology, str),
}
_OF_FIELD = {field.name: _BY_TYPE[str(field.type).removesuffix(" | None")] for field in fields(GangRequest)}
_READ = {name: read for name, (read, _) in _OF_FIELD.items()}
_WRITE = {name: write for name, (_, write) in _OF_FIELD.items()}
_DEFAULTS: dict[str, Any] = {
    field.name: _plain(field.name, field.default if field.default_factory is MISSING else field.default_factory())
    for field in fields(GangRequest)
    if field.default is not MISSING or field.default_factory is not MISSING
}
