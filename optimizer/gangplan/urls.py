"""URLs as people may see them, and the files that SQLite's URLs name.

Whatever shows a URL to a person, or keeps one, writes it with `shown`. Errors pass all their words through
`without_secrets`, so that a library's message is safe as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

CLEAR = "has an @ / ? or # in its user or password: write them as %40 %2F %3F %23"
"""The remedy for a URL that is not `unambiguous`."""

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+://?"  # with one slash, as a URL that was taken for a path
_IN_TEXT = re.compile(rf"{_SCHEME}[^\s'\"<>]+")
_MARKS = re.compile("[%?#]")
_EXAMPLE = "://user:password@"  # of a remedy
_NO_SECRETS = re.compile(r"(?:[a-z0-9]+\+)?(?:sqlite(?:\+\w+)?|file|kueue|memory)://?", re.IGNORECASE)
_HARMLESS = {"host", "port", "dbname", "sslmode", "connect_timeout", "timeout", "listen", "days"}
"""The parameters of a URL whose values may be shown."""


def shown(url: str) -> str:
    """Return a URL without its user, its password and the values of its parameters that may be secret.

    A password may hold any character: where it cannot be told what is part of it, nothing is shown.
    """
    scheme, rest = _parts(url)
    if not rest:
        return url
    if not unambiguous(url):
        return f"{scheme}***"
    address, hash_mark, _ = rest.rpartition("@")[2].partition("#")
    place, mark, query = address.partition("?")
    parameters = "&".join(_shown_parameter(part) for part in query.split("&"))
    return f"{scheme}{place}{mark}{parameters}{hash_mark and '#***'}"


def _parts(url: str) -> tuple[str, str]:
    """Return how a URL begins, and the rest of it; the rest of what can hold no secret is empty."""
    scheme = re.match(_SCHEME, url)
    return (url, "") if scheme is None or _NO_SECRETS.match(url) else (scheme[0], url[scheme.end() :])


def _shown_parameter(part: str) -> str:
    """Return `name=value` of a URL with the value hidden, unless it is known to be harmless."""
    name, equals, _ = part.partition("=")
    return part if name in _HARMLESS or not part else f"{name}=***" if equals else "***"


def without_secrets(text: str, *urls: str) -> str:
    """Return a text with each URL in it as `shown`, and without the passwords of these URLs."""
    for url in urls:
        text = text.replace(url, shown(url))
        for secret in _secrets(url):
            text = text.replace(secret, "***")
    return _IN_TEXT.sub(lambda url: url[0] if _EXAMPLE in url[0] else shown(url[0]), text)


def _secrets(url: str) -> set[str]:
    """Return what of a URL must not be seen, as it stands there and decoded; one or two letters are in any text."""
    user, _, rest = _parts(url)[1].rpartition("@")
    parameters = [part.partition("=") for part in rest.partition("?")[2].split("&")]
    given = [user.partition(":")[2], *(value for name, _, value in parameters if name not in _HARMLESS)]
    return {form for text in given for form in (text, unquote(text)) if len(form) > 2}


def carries_secret(text: str) -> bool:
    """Tell whether a URL in a text has a password, a token in place of a user, or a parameter that may be secret."""
    return _carries(text) or any(_carries(url[0]) for url in _IN_TEXT.finditer(text))


def _carries(url: str) -> bool:
    scheme, rest = _parts(url)
    if not rest or not unambiguous(url):
        return bool(rest)
    user, _, password = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[0].partition(":")
    parameters = [part.partition("=") for part in rest.partition("#")[0].partition("?")[2].split("&")]
    hidden = any(value for name, _, value in parameters if name not in _HARMLESS | {"user"})
    return hidden or bool(password) or ("http" in scheme and bool(user))


def unambiguous(url: str) -> bool:
    """Tell whether user and password of a URL end where they seem to: no @ / ? or # is among their characters."""
    rest = _parts(url)[1]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return authority.count("@") == rest.count("@") <= 1


def has_marks(path: object) -> bool:
    """Tell whether a path has characters that mean something else in a URL, where libraries cut or decode it."""
    return bool(_MARKS.search(str(path)))


def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite file; the characters that would end its path are escaped."""
    return "sqlite:///" + _MARKS.sub(lambda mark: quote(mark[0]), str(file))


def sqlite_file(url: str) -> Path | None:
    """Return the file that a SQLite URL names, or none for another kind of URL."""
    if not url.startswith("sqlite:///"):
        return None
    return Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))


def is_http(url: str) -> bool:
    """Tell whether a URL is that of a web server, such as MLflow's tracking server."""
    return url.startswith(("http://", "https://"))
