"""Pipelines as they are sent: by name or from a file, with what they take, and arguments checked against it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict
from kfp.components import load_component_from_text
from kfp.pipeline_spec import pipeline_spec_pb2

from gangplan.config import write_atomic
from gangplan.errors import InputError
from gangplan.urls import carries_secret
from gangplan_kfp.compile import COMPILED, compile_all
from gangplan_kfp.support import IMAGE

_SPEC: Any = pipeline_spec_pb2  # its messages are made when it is imported
_SHOWS = (
    "carries a password, and KFP shows arguments to all who see its runs: leave it out, and give it to the steps' "
    "environment from a Kubernetes Secret"
)


@dataclass(frozen=True, kw_only=True)
class Input:
    """A parameter of a pipeline."""

    name: str
    type: str
    default: Any
    required: bool


@dataclass(frozen=True, kw_only=True)
class Package:
    """A compiled pipeline: its name, its spec as KFP's API takes it, and its parameters by name."""

    name: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, Input]

    def arguments(self, texts: Iterable[str]) -> dict[str, Any]:
        """Read arguments that are written like name=value; each has its input's type, and no input lacks a value.

        Raises
        ------
        InputError
            A name is none of the inputs or stands twice, a value is of another type or carries a secret, or an input
            without a default has none.
        """
        given: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError("set", text, "has no value: write it like pods=2")
            if name in given:
                raise InputError("set", text, f"gives {name} a second time: give each once")
            if name not in self.inputs:
                raise InputError.unknown("set", name, f"no input of {self.name}", sorted(self.inputs))
            given[name] = _read(self.inputs[name], value)
        for name in self.inputs.keys() - given.keys():
            _check_default(self.inputs[name], self.name)
        return given


def shipped() -> Sequence[str]:
    """Return the names of the pipelines and components that ship with gangplan."""
    return sorted(COMPILED)


def compile_into(folder: Path, names: Sequence[str] = (), image: str = "") -> list[Path]:
    """Compile what ships with gangplan, or those names of it; return the files that were written or have changed.

    Parameters
    ----------
    image
        The image of the steps; by default that of GANGPLAN_KFP_IMAGE.
    """
    texts = {folder / f"{name}.yaml": text for name, text in _compiled(names or shipped(), image).items()}
    changed = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        write_atomic(path, texts[path])
    return changed


def read_package(pipeline: str, image: str = "") -> Package:
    """Read a pipeline that ships with gangplan, by its name, or a YAML file that KFP's compiler wrote."""
    if pipeline in COMPILED:
        return _package(_compiled([pipeline], image)[pipeline], pipeline)
    path = Path(pipeline)
    if path.suffix not in (".yaml", ".yml"):
        remedy = f"is no pipeline: give a compiled YAML file, or one of {', '.join(shipped())}"
        raise InputError("pipeline", pipeline, remedy)
    if image:
        raise InputError("image", image, "cannot be given to a file: the image was chosen when it was compiled")
    try:
        return _package(path.read_text(), pipeline)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("pipeline", pipeline, f"cannot be read ({error}): give a compiled YAML file") from None


def _compiled(names: Sequence[str], image: str) -> dict[str, str]:
    """Return the compiled text of each name, with another image where one is given."""
    for name in names:
        if name not in COMPILED:
            raise InputError.unknown("name", name, "no pipeline or component of gangplan", shipped())
    with TemporaryDirectory() as folder:
        texts = {path.stem: path.read_text() for path in compile_all(Path(folder), names)}
    ours = re.compile(rf"^( +image: ){re.escape(IMAGE)}$", re.MULTILINE)
    return {name: ours.sub(rf"\g<1>{image}", texts[name]) if image else texts[name] for name in names}


def _package(text: str, given: str) -> Package:
    """Read compiled YAML, which must keep the pipeline spec's schema."""
    try:
        component: Any = load_component_from_text(text)
        read = component.pipeline_spec  # each time it is asked for, the text is parsed anew
        spec, platform = MessageToDict(read), MessageToDict(component.platform_spec)
        definitions, name = read.root.input_definitions, read.pipeline_info.name
    except Exception as error:  # noqa: BLE001 - KFP raises what its parsers raise
        words = " ".join(str(error).split())[:300]
        raise InputError("pipeline", given, f"is no compiled pipeline ({words}): compile it with KFP 2") from None
    needed = [name for name, artifact in definitions.artifacts.items() if not artifact.is_optional]
    if needed:
        raise InputError("pipeline", given, f"wants artifacts ({', '.join(needed)}): only parameters can be given")
    inputs = {name: _input(name, each) for name, each in sorted(definitions.parameters.items())}
    whole = {"pipeline_spec": spec, "platform_spec": platform} if platform else spec
    return Package(name=name, spec=whole, inputs=inputs)


def _input(name: str, definition: Any) -> Input:
    given, types = definition.HasField("default_value"), _SPEC.ParameterType.ParameterTypeEnum
    return Input(
        name=name,
        type=types.Name(definition.parameter_type),
        default=MessageToDict(definition.default_value) if given else None,
        required=not given and not definition.is_optional,
    )


def _check_default(wanted: Input, pipeline: str) -> None:
    if wanted.required:
        raise InputError(wanted.name, "", f"is missing: {pipeline} needs it, give it with --set {wanted.name}=...")
    if carries_secret(json.dumps(wanted.default)) or carries_secret(str(wanted.default)):
        raise InputError(wanted.name, str(wanted.default), _SHOWS)


def _read(wanted: Input, text: str) -> Any:
    """Read an argument as its input's type."""
    if carries_secret(text):
        raise InputError(wanted.name, text, _SHOWS)
    if wanted.type == "STRING":
        return text
    reads = {
        "NUMBER_INTEGER": (_whole, "is no whole number: give it like 2"),
        "NUMBER_DOUBLE": (_number, "is no number: give it like 0.5"),
        "BOOLEAN": (_yes, "is neither true nor false: give one of them"),
        "LIST": (lambda text: _json(text, list), "is no list: give it like '[h100, a100]'"),
        "STRUCT": (lambda text: _json(text, dict), "is no mapping: give it like '{horizon_hours: 48}'"),
    }
    if wanted.type not in reads:
        raise InputError(wanted.name, text, f"cannot be given: KFP itself fills in inputs of type {wanted.type}")
    read, remedy = reads[wanted.type]
    try:
        return read(text)
    except (ValueError, KeyError, TypeError, yaml.YAMLError):
        raise InputError(wanted.name, text, remedy) from None


def _whole(text: str) -> int:
    return int(text.strip())


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _yes(text: str) -> bool:
    return {"true": True, "false": False}[text.strip().lower()]


def _json(text: str, kind: type) -> Any:
    """Read YAML, of which JSON is a part, whose values JSON has as well."""
    value = yaml.safe_load(text)
    if not isinstance(value, kind):
        raise TypeError(text)
    json.dumps(value, allow_nan=False)
    return value
