"""What servers have now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The minimum of one server, as the cluster has it.

    key : the entry of `serving` that it is of
    kind : what it is: for a buffer the kind that this cluster can have
    minimum : replicas, or nodes kept free; None where nothing of ours is there yet
    floor, ceiling : the least and the most that its engine takes
    floor_why : why the floor is not 0
    filled : GPUs that the server's pods use of those that a buffer would keep free
    owner : another manager of the number, which may not be overruled
    stale : the number is right, but something else that we wrote is not as the settings say
    missing : why there is nothing to write to
    """

    key: str
    kind: str
    minimum: int | None
    floor: int = 0
    floor_why: str = ""
    ceiling: int | None = None
    filled: float = 0.0
    owner: str = ""
    stale: bool = False
    missing: str = ""
