"""KFP's API as its own definitions have it: each route with its parameters, and each message as a pydantic model.

`kfp_server_api` is generated from the API's Swagger file. Routes are found by making each of its calls with a client
that sends nothing; messages by the types that its models list. So the double follows the installed version of KFP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, ForwardRef, Literal, Optional

import kfp_server_api
from pydantic import ConfigDict, StrictBool, StrictInt, StrictStr, create_model

PARAMETER = re.compile(r":param (?P<name>[a-z]\w*):(?P<said>[^\n]*)\n\s+:type (?P=name): (?P<type>[^\n]+)\n")
OURS = ("async_req",)
"""Parameters of the generated client that the API does not have."""

INT64 = ("max_concurrency", "interval_second")
"""Fields of 64 bits: JSON has them as text or as numbers, and the generated client knows the text alone."""

PLAIN: dict[str, Any] = {
    "str": StrictStr,
    "int": StrictInt,
    "bool": StrictBool,
    "float": float,
    "datetime": datetime,
    "object": Any,
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a call: its name in Python and in the API, where it stands, its type."""

    name: str
    alias: str
    place: str
    type: str
    required: bool


@dataclass(frozen=True, kw_only=True)
class Route:
    """A call of the API."""

    operation: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    answer: str


class Recorder(kfp_server_api.ApiClient):
    """A client that sends nothing and returns what it would have sent."""

    def call_api(self, resource_path: str, method: str, *given: Any, **named: Any) -> Any:
        """Return path, method, parameters by their places, and the answer's type."""
        path_params, query_params = given[0], given[1]
        places = {"path": path_params, "query": dict(query_params), "file": named["files"]}
        return resource_path, method, places, named["body"], named["response_type"]


def routes() -> Iterator[Route]:
    """Give every call of the API's services."""
    for name, service in vars(kfp_server_api).items():
        if name.endswith("ServiceApi"):
            for method in vars(service):
                if method.endswith("_with_http_info"):
                    yield _route(service(Recorder()), method)


def _route(service: Any, method: str) -> Route:
    call = getattr(service, method)
    stated = {
        found["name"]: ("(required)" in found["said"], found["type"])
        for found in PARAMETER.finditer(call.__doc__)
        if found["name"] not in OURS
    }
    path, verb, places, body, answer = call(**{name: name for name in stated})
    parameters = [
        Parameter(name=name, alias=alias, place=place, type=stated[name][1], required=stated[name][0])
        for place, given in places.items()
        for alias, name in given.items()
    ]
    if body is not None:
        required, kind = stated[body]
        parameters.append(Parameter(name=body, alias=body, place="body", type=kind, required=required))
    assert {parameter.name for parameter in parameters} == set(stated), (method, parameters, stated)
    return Route(
        operation=method.removesuffix("_with_http_info"),
        method=verb,
        path=path,
        parameters=tuple(parameters),
        answer=answer or "object",
    )


@cache
def messages() -> dict[str, Any]:
    """Return each message's model, or an enum's values, by the name that the definitions have for it."""
    there = {name: kind for name, kind in vars(kfp_server_api.models).items() if hasattr(kind, "openapi_types")}
    made: dict[str, Any] = {}
    for name, kind in there.items():
        if hasattr(kind, "allowable_values"):
            made[name] = Literal[tuple(kind.allowable_values)]
        else:
            made[name] = create_model(name, __config__=ConfigDict(extra="forbid"), **_fields(kind))
    for model in made.values():
        if isinstance(model, type):
            model.model_rebuild(_types_namespace=made | PLAIN)
    return made


def _fields(kind: Any) -> dict[str, Any]:
    """Return a message's fields with their types; `@type` of an Any has no name in Python, and no answer of ours."""
    stated = {kind.attribute_map[field]: type_ for field, type_ in kind.openapi_types.items()}
    return {
        name: (StrictStr | StrictInt | None if name in INT64 else Optional[_annotation(type_)], None)  # noqa: UP045
        for name, type_ in stated.items()
        if name.isidentifier()
    }


def _annotation(stated: str) -> Any:
    """Return the type that the definitions write like `str`, `list[X]`, `dict(str, X)` or X; a message by its name."""
    if found := re.fullmatch(r"list\[(.*)\]", stated):
        return list[_annotation(found[1])]
    if found := re.fullmatch(r"dict\(str, (.*)\)", stated):
        return dict[str, _annotation(found[1])]
    return PLAIN.get(stated) or ForwardRef(stated)


def type_of(stated: str) -> Any:
    """Return a parameter's or an answer's type."""
    return PLAIN.get(stated) or messages().get(stated) or Any
