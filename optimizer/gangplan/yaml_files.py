"""The one reader of YAML files: strict, and each mistake names file, line, field and remedy.

PyYAML alone keeps the last of two equal keys without a word. Here a key that stands twice is refused.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from gangplan.errors import InputError

T = TypeVar("T")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_NO_NUMBER = ("float_parsing", "float_type", "int_parsing", "int_type")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OTHER_NOTATION = re.compile(r"[-+]?(?:0[0-9_xbXB]|.*:)")
_CONFLICT = re.compile(r"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")


@dataclass(frozen=True, kw_only=True)
class YamlDocument:
    """The plain values of a YAML text, and the line on which each of them stands.

    `places` has the line and the text of each entry by its path, such as `pools.0.name`; `source` names the file.
    """

    body: Any
    source: str
    places: dict[str, tuple[int, str]]

    @contextmanager
    def naming_lines(self) -> Generator[None]:
        """Add the file and the line to an error about one of the fields."""
        try:
            yield
        except InputError as error:
            line = self._line_of(error)
            where = f"{self.source} line {line}" if line else self.source
            raise InputError(error.field, error.value, f"{error.remedy} ({where})") from None

    def read_as(self, adapter: TypeAdapter[T], name: str, *, qualified: bool = True) -> T:
        """Check the values against a type; see `validated`."""
        with self.naming_lines():
            return validated(adapter, self.body, name, qualified=qualified)

    def _line_of(self, error: InputError) -> int:
        """Find the line of a field: by its path, or else by name and value, or else that of what it is part of."""
        parts = error.field.replace("[", ".").replace("]", "").split(".")
        for start in range(len(parts)):
            if place := self.places.get(".".join(parts[start:])):
                return place[0]
        for path, (line, text) in self.places.items():
            if path.endswith(f".{error.value}") or (path.endswith(f".{parts[-1]}") and _reads_as(text, error.value)):
                return line
        ancestors = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
        return next((self.places[path][0] for path in ancestors if path in self.places), 0)


def _reads_as(text: str, value: object) -> bool:
    """Whether the text of an entry is read as that value."""
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # a quoted text may hold what no plain one can
        return text == str(value)
    return read == value or str(read) == str(value) or (isinstance(value, float) and _number(read) == value)


def _number(text: object) -> float | None:
    """Return the number that a text is, if it is one."""
    try:
        return float(str(text))
    except ValueError:
        return None


def read_yaml(path: Path, name: str, *, missing: str = "is not there: check the path") -> YamlDocument:
    """Read a YAML file.

    Parameters
    ----------
    name : what the file is, as errors call it
    missing : the remedy when there is no such file

    Raises
    ------
    InputError
        The file cannot be read, is not YAML, or has a key twice in one mapping.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise InputError(name, path, missing) from None
    except OSError as error:
        raise InputError(name, path, f"cannot be read ({error.strerror}): check the path and its rights") from None
    except UnicodeDecodeError:
        raise InputError(name, path, "is not text in UTF-8: save it as such") from None
    return parse_yaml(text, name, str(path))


def parse_yaml(text: str, name: str, source: str) -> YamlDocument:
    """Read YAML text; `source` is the file that errors name."""
    places: dict[str, tuple[int, str]] = {}
    if marker := _CONFLICT.search(text):
        line = text.count("\n", 0, marker.start()) + 1
        raise InputError(name, f"{source} line {line}", "has the mark of an unfinished merge: settle it")
    try:
        loader: Any = yaml.SafeLoader(text)  # its stub leaves types out
        root = loader.get_single_node()
        body = None if root is None else loader.construct_document(root)
        _walk(root, "", source, places, set())
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the last three: of a wrong !!tag
        mark = getattr(error, "problem_mark", None)
        where = source if mark is None else f"{source} line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "one of its values is unreadable"
        problem = "a tab: indent with blanks" if "'\\t'" in problem else problem
        raise InputError(name, where, f"is not YAML, so it cannot be read ({problem}): correct it") from None
    except RecursionError:
        raise InputError(name, source, "is nested too deeply: a configuration has a few levels") from None
    return YamlDocument(body=body, source=source, places=places)


def _walk(node: Any, path: str, source: str, places: dict[str, tuple[int, str]], seen: set[int]) -> None:
    """Note where each entry stands, and refuse a repeated key; what an alias repeats is seen once."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    first: dict[str, int] = {}
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(None, item) for item in node.value]
    for index, (key, value) in enumerate(pairs):
        label, line = (str(index), value.start_mark.line + 1) if key is None else (key.value, key.start_mark.line + 1)
        text = value.value if isinstance(value, yaml.ScalarNode) else ""
        if label in first:
            remedy = f"stands twice ({source} line {first[label]} and line {line}): leave one of them out"
            raise InputError(label, text, remedy)
        first[label] = line
        here = f"{path}.{label}" if path else label
        _require_decimal(value, here, f"{source} line {line}")
        places[here] = (line, text)
        _walk(value, here, source, places, seen)


def _require_decimal(node: Any, path: str, place: str) -> None:
    """Refuse a number that YAML reads otherwise than people do: 010 as 8, 1:30 as 90, 0x10 as 16."""
    if node.tag in _NUMBERS and not node.style and _OTHER_NOTATION.match(node.value):
        remedy = f"would be read as {yaml.safe_load(node.value)}: write it in decimal digits, or quote a text ({place})"
        raise InputError(path, node.value, remedy)


def validated(adapter: TypeAdapter[T], body: object, name: str, *, qualified: bool = True) -> T:
    """Check plain values against a type.

    Parameters
    ----------
    name : what the values are, as errors call them
    qualified : whether that name stands before the path of a field, as in `plan policy.change_hours`

    Raises
    ------
    InputError
        A field is unknown, missing or wrong; the first one is named.
    """
    try:
        return adapter.validate_python(body)
    except ValidationError as error:
        path = [str(part) for part in error.errors()[0]["loc"]]
        raise refused_field(error, ".".join([name, *path] if qualified or not path else path)) from None


def refused_field(
    error: ValidationError, field: str, *, what: str = "not a known field", known: Iterable[str] = ()
) -> InputError:
    """Say pydantic's first complaint as an error of field, value and remedy; see `InputError.unknown`."""
    first = error.errors()[0]
    if first["type"] in _UNKNOWN:
        return InputError.unknown(field, first["input"], what, known)
    if first["type"] in _MISSING:
        return InputError.missing(field)
    if first["type"] == "invalid_key":
        return InputError(field, first["input"], "is no field: a number has a decimal point, not a comma; quote a text")
    if first["type"] in _NO_NUMBER:
        what = (
            "an integer: digits alone" if first["type"].startswith("int") else "a number: like 31.2, without a currency"
        )
        return InputError(field, first["input"], f"must be {what}")
    return InputError(field, first["input"], f"{first['msg'][:1].lower()}{first['msg'][1:]}")
