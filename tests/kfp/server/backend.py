"""What the double keeps: experiments, runs and recurring runs, with the rules by which KFP's API server refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from threading import Event
from typing import Any
from uuid import UUID

from google.protobuf.json_format import ParseDict, ParseError
from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType, PipelineSpec, PlatformSpec

from gangplan.testing import NOW

Object = dict[str, Any]
KINDS = {"STRING": str, "NUMBER_INTEGER": (int, float), "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool}
KINDS |= {"LIST": list, "STRUCT": dict}


class Refused(Exception):
    """An answer that is an error: HTTP status, gRPC code, words."""

    def __init__(self, status: int, code: int, words: str) -> None:
        super().__init__(words)
        self.status, self.code = status, code


def invalid(words: str) -> Refused:
    """Return the refusal of a request that makes no sense."""
    return Refused(400, 3, words)


@dataclass
class Backend:
    """A KFP that runs nothing: a run goes on by one state of its course each time that somebody looks at it."""

    experiments: dict[str, Object] = field(default_factory=dict[str, Object])
    runs: dict[str, Object] = field(default_factory=dict[str, Object])
    recurring_runs: dict[str, Object] = field(default_factory=dict[str, Object])
    course: tuple[str, ...] = ("RUNNING", "SUCCEEDED")
    """The states of a run after PENDING; the last one stays."""
    error: str = ""
    """The words of the error with which a run fails."""
    version: str = "2.17.0"
    multi_user: bool = False
    token: str = ""
    """The token that each call must bring, if any."""
    failures: list[Refused] = field(default_factory=list[Refused])
    """What the next calls are answered with."""
    page: bytes = b""
    """A web page that answers every call instead, as one to log in does."""
    held: Event = field(default_factory=Event)
    """While it is not set, calls of `slow` paths are not answered."""
    slow: str = "nothing"
    looks: dict[str, int] = field(default_factory=dict[str, int])
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        """Have the experiment that KFP makes at its start."""
        self.create_experiment({"display_name": "Default"})

    def new(self) -> tuple[str, datetime]:
        """Return an id, and a moment that is later than any before."""
        number = next(self.numbers)
        return str(UUID(int=number << 64 | 4 << 76 | 1 << 63)), NOW + timedelta(seconds=number)

    # ------------------------------------------------------------ experiments

    def create_experiment(self, experiment: Object) -> Object:
        """Make an experiment; its name is its own."""
        name = experiment.get("display_name")
        if not name:
            raise invalid("Experiment name is empty")
        if any(each["display_name"] == name for each in self.experiments.values()):
            raise Refused(409, 6, f"Failed to create a new experiment. The name {name} already exists")
        identity, at = self.new()
        self.experiments[identity] = experiment | {
            "experiment_id": identity,
            "created_at": at,
            "storage_state": "AVAILABLE",
        }
        return self.experiments[identity]

    # ------------------------------------------------------------ runs

    def create_run(self, run: Object) -> Object:
        """Start a run of an inline pipeline."""
        self._check(run)
        identity, at = self.new()
        self.runs[identity] = run | {
            "run_id": identity,
            "experiment_id": run.get("experiment_id") or next(iter(self.experiments)),
            "created_at": at,
            "storage_state": "AVAILABLE",
            "state": "PENDING",
        }
        return self.runs[identity]

    def get_run(self, run_id: str) -> Object:
        """Return a run, which goes on by one state."""
        run = found(self.runs, run_id, "run")
        answer = dict(run)
        looks = self.looks[run_id] = self.looks.get(run_id, -1) + 1
        if run["state"] not in ("CANCELED", self.course[-1]):
            self._go(run, "CANCELED" if run["state"] == "CANCELING" else self.course[min(looks, len(self.course) - 1)])
        return answer

    def _go(self, run: Object, state: str) -> None:
        """Bring a run into a state, and its steps with it; KFP lists its drivers and executors among the steps."""
        run["state"] = state
        spec = run["pipeline_spec"]
        names = list(spec.get("pipeline_spec", spec)["root"]["dag"]["tasks"])
        whole = [("root", state), *((f"{name}-driver", "SUCCEEDED") for name in names), ("executor", state)]
        steps = [*whole, *((name, state) for name in names)]
        run["run_details"] = {"task_details": [{"display_name": name, "state": each} for name, each in steps]}
        if state in ("SUCCEEDED", "FAILED", "CANCELED"):
            _, run["finished_at"] = self.new()
        if state == "FAILED" and self.error:
            run["error"] = {"code": 13, "message": self.error}

    def terminate_run(self, run_id: str) -> Object:
        """Ask for a run's end."""
        run = found(self.runs, run_id, "run")
        if run["state"] in ("SUCCEEDED", "FAILED", "CANCELED"):
            raise invalid(f"Failed to terminate run {run_id}: it has already finished")
        run["state"] = "CANCELING"
        return {}

    # ------------------------------------------------------------ recurring runs

    def create_recurring_run(self, recurring_run: Object) -> Object:
        """Make a recurring run; several may have one name."""
        self._check(recurring_run)
        if not 1 <= int(recurring_run.get("max_concurrency") or 0) <= 10:
            raise invalid("The max concurrency of the recurring run is out of range. Supports 1-10")
        trigger = recurring_run.get("trigger") or {}
        cron = (trigger.get("cron_schedule") or {}).get("cron")
        every = (trigger.get("periodic_schedule") or {}).get("interval_second")
        if (cron is None) == (every is None) or (cron and len(cron.split()) != 6) or (every and int(every) < 1):
            raise invalid("Schedule is ill-formatted: KFP takes a cron expression of 6 fields, or a period")
        identity, at = self.new()
        status = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}.get(recurring_run.get("mode", ""))
        if status is None:
            raise invalid("Mode is unspecified")
        self.recurring_runs[identity] = recurring_run | {
            "recurring_run_id": identity,
            "created_at": at,
            "status": status,
            "max_concurrency": str(recurring_run["max_concurrency"]),
        }
        return self.recurring_runs[identity]

    def switch(self, recurring_run_id: str, status: str) -> Object:
        """Enable or disable a recurring run."""
        found(self.recurring_runs, recurring_run_id, "recurring run")["status"] = status
        return {}

    # ------------------------------------------------------------ rules

    def _check(self, body: Object) -> None:
        """Refuse a run or a recurring run as the API server does: no pipeline, wrong inputs, no such experiment."""
        if not body.get("display_name"):
            raise invalid("The name is empty")
        if body.get("experiment_id"):
            found(self.experiments, body["experiment_id"], "experiment")
        spec = body.get("pipeline_spec")
        if not spec:
            raise invalid("Neither a pipeline spec nor a pipeline version is given")
        try:
            read = ParseDict(spec.get("pipeline_spec", spec), PipelineSpec())
            ParseDict(spec.get("platform_spec", {}), PlatformSpec())
        except ParseError as error:
            raise invalid(f"Invalid IR spec format: {error}") from None
        check_inputs(read, (body.get("runtime_config") or {}).get("parameters") or {})


def check_inputs(spec: PipelineSpec, given: Mapping[str, Any]) -> None:
    """Refuse arguments that are not the pipeline's, of another type, or missing."""
    inputs = spec.root.input_definitions.parameters
    for name in given:
        if name not in inputs:
            raise invalid(f"parameter {name} is not an input of the pipeline")
        kind = KINDS[ParameterType.ParameterTypeEnum.Name(inputs[name].parameter_type)]
        if not isinstance(given[name], kind) or (kind is not bool and isinstance(given[name], bool)):
            raise invalid(f"input parameter {name} has another type")
    for name, each in inputs.items():
        if name not in given and not each.is_optional and not each.HasField("default_value"):
            raise invalid(f"parameter {name} is not optional, yet has neither default value nor user provided value")


def found(there: Mapping[str, Object], identity: str, what: str) -> Object:
    """Return an object by its id, or refuse."""
    if identity not in there:
        raise Refused(404, 5, f"Failed to get {what} {identity}: not found")
    return there[identity]


def listed(there: Mapping[str, Object], what: str, given: Mapping[str, Any], keep: Callable[[Object], bool]) -> Object:
    """Return a page of objects: sorted and filtered as asked for, from where the token says."""
    wanted = [each for each in there.values() if keep(each) and _passes(each, given.get("filter") or "")]
    order, _, direction = (given.get("sort_by") or "created_at").partition(" ")
    wanted.sort(key=lambda each: each[order], reverse=direction == "desc")
    begin, size = int(given.get("page_token") or 0), given.get("page_size") or 10
    page: Object = {what: wanted[begin : begin + size], "total_size": len(wanted)}
    if begin + size < len(wanted):
        page["next_page_token"] = str(begin + size)
    return page


def _passes(each: Object, text: str) -> bool:
    """Apply a filter, of which only equality is known; KFP's JSON has two spellings of each field."""
    for predicate in json.loads(text)["predicates"] if text else ():
        if predicate["operation"] not in (1, "EQUALS"):
            raise Refused(501, 12, f"the double does not filter by {predicate['operation']}")
        if each.get(predicate["key"]) != predicate.get("string_value", predicate.get("stringValue")):
            return False
    return True
