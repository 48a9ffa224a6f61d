"""Clients of AWS, and its refusals as our errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias

from gangplan.errors import CapacityError, ConflictError, ForbiddenError, RejectedError, UnavailableError
from gangplan.execute.cloud.groups import CORDONED
from gangplan.extras import needs_extras

Connect: TypeAlias = Callable[..., Any]
"""Returns a client of boto3, by service and region; with `retries=False` it makes each call once."""

TAGGED_AT_ONCE = 200
"""Machines that one call about tags may name."""

_CONNECT_S, _READ_S = 5, 30

_REFUSALS = {
    ForbiddenError: (
        "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthFailure", "UnrecognizedClientException",
        "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "RequestExpired",
        "OptInRequired",
    ),
    CapacityError: (
        "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity", "SpotMaxPriceTooLow", "MaxSpotInstanceCountExceeded",
    ),
    ConflictError: ("ScalingActivityInProgress", "ResourceContention", "IncorrectState", "IncorrectInstanceState"),
    UnavailableError: (
        "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled", "ServiceUnavailable",
        "Unavailable", "InternalError", "InternalFailure", "InternalServerError", "RequestTimeout",
    ),
}  # fmt: skip
_ERROR_OF = {code: error for error, codes in _REFUSALS.items() for code in codes}


def connect(service: str, region: str, *, retries: bool = True) -> Any:
    """Open a client with the credentials that boto3 finds: environment, profile, web identity or instance role.

    Raises
    ------
    MissingExtraError
        boto3 is not installed.
    """
    with needs_extras():
        import boto3  # pyright: ignore[reportMissingTypeStubs]
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": 4 if retries else 1},
        user_agent_extra="gangplan",
    )
    library: Any = boto3
    with calling(f"AWS {region}"):  # a session of its own: boto3's default one serves one thread alone
        return library.Session().client(service, region_name=region, config=config)


@contextmanager
def calling(shown: str) -> Generator[None]:
    """Turn what AWS refuses, and an AWS that cannot be reached, into our errors."""
    from botocore import exceptions as aws  # pyright: ignore[reportMissingTypeStubs]

    try:
        yield
    except aws.ClientError as error:
        raise _refusal(error, shown) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.TokenRetrievalError, aws.ProfileNotFound) as error:
        remedy = "set AWS_PROFILE, or give this process a role"
        raise ForbiddenError(f"{shown}: no credentials of AWS ({error}): {remedy}") from error
    except aws.ParamValidationError as error:
        raise RejectedError(f"{shown}: {' '.join(str(error).split())}") from error
    except aws.BotoCoreError as error:
        raise UnavailableError(f"{shown}: AWS cannot be reached ({error})") from error


def _refusal(error: Any, shown: str) -> Exception:
    """Return our error for one of AWS, in its words."""
    answer: dict[str, Any] = error.response
    code: str = answer.get("Error", {}).get("Code", "")
    words = f"{shown}: {answer.get('Error', {}).get('Message', '') or error} ({code})"
    away = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    return _ERROR_OF.get(code, UnavailableError if away else RejectedError)(words)


class Ec2Clients:
    """Clients by service and region, each opened when it is first used; one that writes never repeats a call."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._open: dict[tuple[str, str, bool], Any] = {}

    def reader(self, service: str, region: str) -> Any:
        """Return the client for calls that only read."""
        return self._of(service, region, True)

    def writer(self, service: str, region: str) -> Any:
        """Return the client for calls that change something."""
        return self._of(service, region, False)

    def _of(self, service: str, region: str, retries: bool) -> Any:
        key = (service, region, retries)
        if key not in self._open:
            self._open[key] = self._connect(service, region, retries=retries)
        return self._open[key]

    def cordon(self, region: str, machines: Collection[str], at: datetime | None) -> None:
        """Set or delete the tag that says since when these machines are cordoned."""
        client = self.writer("ec2", region)
        for some in chunks(machines, TAGGED_AT_ONCE):
            with calling(f"tags in {region}"):
                if at is None:
                    client.delete_tags(Resources=some, Tags=[{"Key": CORDONED}])
                else:
                    client.create_tags(Resources=some, Tags=[{"Key": CORDONED, "Value": at.isoformat()}])

    def close(self) -> None:
        """Close all of them."""
        for client in self._open.values():
            client.close()
        self._open.clear()


def chunks(names: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the names in lists of at most so many."""
    each = iter(names)
    while some := list(islice(each, size)):
        yield some
