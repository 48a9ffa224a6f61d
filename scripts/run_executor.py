"""The executor of `make run`."""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor


class CycleExecutor(LocalExecutor):
    """Airflow's LocalExecutor, made sure to end.

    Its own `end` (3.3.2) sends one stop to each worker that is alive at that moment. A worker may take the stop meant
    for another and be gone when its turn comes: then there is one stop too few, and `end` waits for ever.
    """

    def end(self) -> None:
        """Send a stop for each worker there is; one too many is of no harm."""
        for _ in self.workers:
            self.activity_queue.put(None)
        super().end()
