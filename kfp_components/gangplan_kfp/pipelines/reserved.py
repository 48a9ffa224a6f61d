"""A reservation around the steps of a pipeline, in one `with`: what must go together, put together once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_task import PipelineTask

from gangplan_kfp.components import release_gang, reserve_gang


@contextmanager
def reserved_gang(*, name: str = "gang", ledger: Any = "", home: Any = "", **wish: Any) -> Iterator[PipelineTask]:
    """Reserve a gang and release it when the steps inside end, however they end; use it at the outermost level.

    Yields the task of `reserve_gang`: put `.after(gang)` on the steps that need the slots. `wish` is what
    `reserve_gang` takes. Both tasks get this run's id as key and are never cached: a cached grant is a dead lease.
    """
    place = {"run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER, "name": name, "ledger": ledger, "home": home}
    released: Any = release_gang(**place)
    with dsl.ExitHandler(released.set_caching_options(False), name=f"hold-{name}"):
        yield reserve_gang(**place, **wish).set_caching_options(False)
