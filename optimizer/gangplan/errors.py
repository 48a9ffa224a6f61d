"""Everything gangplan raises on purpose.

    GangplanError                    exit code 1
    ├── InputError                   2  a value somebody gave is wrong: field, value, remedy; nothing was written
    │   └── MissingExtraError        2  a part of gangplan that is not installed
    ├── Refusal                      3  an expected "no": the request was understood
    │   ├── NotFoundError            3  no such reservation, plan or model
    │   ├── KeyConflictError         3  the request key was used with another body
    │   ├── StaleTokenError          3  the fencing token is not the reservation's present one
    │   ├── NoRoomError              3  a running gang cannot grow now
    │   ├── WaitTimeoutError         3  the slots did not come in time
    │   ├── ForbiddenError           3  the rights that we have do not cover it
    │   ├── UnsupportedError         3  this kind of ledger cannot do it, another can
    │   ├── StrandedError            3  a calendar would take nodes from those who hold or were promised them
    │   ├── OldTelemetryError        3  the telemetry is too old to plan from
    │   ├── ApprovalError            3  nobody has approved the plan, and somebody must
    │   └── GateError                3  the challenger did not pass the gate
    └── UnavailableError             4  a store cannot be reached: try again

The message of each is one line; its parts are fields, so that a program need not parse it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gangplan.urls import shown, without_secrets


class GangplanError(Exception):
    """Base of all errors that gangplan raises on purpose; its words hold no URL's password."""

    exit_code: int = 1

    def __init__(self, *words: object) -> None:
        super().__init__(*(without_secrets(word) if isinstance(word, str) else word for word in words))


class InputError(GangplanError):
    """A value that somebody gave is wrong; nothing was written."""

    exit_code = 2

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = shown(value) if isinstance(value, str) else value
        self.remedy = remedy
        super().__init__(" ".join(f"{field}: {_readable(self.value)} {remedy}".split()))

    @staticmethod
    def unknown(field: str, value: object, what: str, known: Iterable[str] = ()) -> InputError:
        """Return the error about a name that is none of those known, such as a field that there is not.

        Parameters
        ----------
        what
            What the name is not, as `no field of a request`.
        known
            The names that there are; without them, the remedy is to check the spelling.
        """
        names = ", ".join(known)
        return InputError(field, value, f"is {what}: {f'use one of {names}' if names else 'check its spelling'}")

    @staticmethod
    def missing(field: str, value: object = "") -> InputError:
        """Return the error about a field without a value."""
        return InputError(field, value, "is missing: it must be given")

    def renamed(self, field: str) -> InputError:
        """Return the same error about a field that its writer calls otherwise."""
        return InputError(field, self.value, self.remedy)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, object, str]]:
        """Pickle by the parts, since Airflow and KFP carry errors across processes."""
        return type(self), (self.field, self.value, self.remedy)


class MissingExtraError(InputError):
    """A part of gangplan that is not installed was asked for."""

    def __init__(self, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        super().__init__("extra", extra, f"is not installed ({module} is missing): pip install 'gangplan[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self), (self.module, self.extra)


class Refusal(GangplanError):
    """An expected "no": the request was understood and cannot be granted."""

    exit_code = 3


class NotFoundError(Refusal):
    """There is no such reservation, plan, run or model."""


class KeyConflictError(Refusal):
    """The request key was used before with another body."""


class StaleTokenError(Refusal):
    """The fencing token is not the reservation's present one; nothing was changed."""


class NoRoomError(Refusal):
    """A running gang cannot grow now: no slots, or no quota; nothing was changed."""


class WaitTimeoutError(Refusal):
    """The slots did not come within the time that the caller would wait."""


class ForbiddenError(Refusal):
    """The rights that we have do not cover the call; nothing was changed."""


class UnsupportedError(Refusal):
    """This kind of ledger cannot do that, another kind can; nothing was changed."""


class StrandedError(Refusal):
    """A calendar would take nodes from gangs that hold them, or from accepted windows; nothing was changed."""


class OldTelemetryError(Refusal):
    """The last hour of the telemetry is older than the setting allows a plan's to be."""


class ApprovalError(Refusal):
    """The policy wants a person to approve a plan before it holds, and nobody has."""


class GateError(Refusal):
    """The challenger did not pass the gate."""


class ConflictError(GangplanError):
    """Somebody else wrote it first, or it exists already: read it again."""


class RejectedError(GangplanError):
    """An engine understood what it was asked and refuses it; nothing was written."""


class CapacityError(GangplanError):
    """A cloud has no nodes of that kind now; nothing was ordered."""


class UnavailableError(GangplanError):
    """A store cannot be reached or is locked; the call may be made again."""

    exit_code = 4


def _readable(value: object) -> str:
    """Give the value as its writer would recognise it, cut to a line's length."""
    if isinstance(value, int) and value.bit_length() > 1024:  # Python refuses to write out the longest
        return "a number of more than 300 digits"
    text = repr(value) if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 120 else text[:117] + "..."
