"""Components that belong to a run: with an id that stands in the pipeline, each run would get the first one's."""

from __future__ import annotations

from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask
from kfp.dsl.python_component import PythonComponent

from gangplan.errors import InputError
from gangplan_kfp.support import refuse_secrets


class _KeyedComponent(PythonComponent):
    """A component that a pipeline uses with the id of its run only, and nobody with a secret: parameters are shown."""

    def __call__(self, *args: Any, **given: Any) -> PipelineTask:
        refuse_secrets(given)
        run_id = given.get("run_id")
        fixed = isinstance(run_id, str) and "{{channel:" not in run_id and run_id != dsl.PIPELINE_JOB_ID_PLACEHOLDER
        if fixed and Pipeline.get_default_pipeline() is not None:
            raise InputError("run_id", run_id, "is the same in every run: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER")
        return super().__call__(*args, **given)


def keyed(component: Any) -> Any:
    """Refuse another run's id when a pipeline uses the component, and a URL with a secret whenever it is used."""
    component.__class__ = _KeyedComponent
    return component
