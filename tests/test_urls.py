"""URLs for people: no password, whatever characters it has, in whatever place it stands."""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from gangplan.config import Settings
from gangplan.errors import InputError, UnavailableError
from gangplan.reserve import open_ledger
from gangplan.tracking import Store
from gangplan.urls import carries_secret, shown, sqlite_file, sqlite_url, unambiguous, without_secrets

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=383, exclude_categories=["Cc", "Zs"]), min_size=3)
PLACES = (
    "http://ada:{}@host:5000",
    "mlflow+https://ada:{}@host/mlflow",
    "postgresql+psycopg://ada:{}@host/ledger?sslmode=require",
    "postgresql://host/ledger?user=ada&password={}",
    "postgresql://host/ledger?sslpassword={}&sslmode=verify-full",
    "prometheus+http://:{}@host:9090/path?days=3",
    "https://{}@host",
    "http://host/api?token={}",
)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://ada:s3cret@host:5000/a?days=3", "http://host:5000/a?days=3"),
        ("http://ada:p@s/s?w#d@host:5000", "http://***"),
        ("http://host/api?token=a@b", "http://***"),
        (
            "postgresql://db/ledger?password=x&sslmode=require&a",
            "postgresql://db/ledger?password=***&sslmode=require&***",
        ),
        ("http://host/a#token=x", "http://host/a#***"),
        ("sqlite:////home/ada@work/ledger.db?timeout=3", "sqlite:////home/ada@work/ledger.db?timeout=3"),
        ("mlflow+sqlite:///a@b.db", "mlflow+sqlite:///a@b.db"),
        ("kueue://kubernetes-admin@kubernetes/ns/queue", "kueue://kubernetes-admin@kubernetes/ns/queue"),
        ("jobs.csv", "jobs.csv"),
        ("holidays:DE", "holidays:DE"),
    ],
)
def test_url_is_shown_without_what_is_secret(url: str, seen: str) -> None:
    """Host, path and harmless parameters stay."""
    assert shown(url) == seen
    assert without_secrets(f"{url} cannot be opened", url) == f"{seen} cannot be opened"


@given(SECRETS, st.sampled_from(PLACES), st.booleans())
def test_no_password_is_shown(secret: str, place: str, quoted: bool) -> None:
    """Neither raw nor quoted, whatever its characters; raw in a parameter, it ends at the next one."""
    marked = f"s3c{secret}ret" if "={}" not in place else f"s3c{secret}ret".replace("&", "")
    url = place.format(quote(marked, safe="") if quoted else marked)
    for text in (shown(url), without_secrets(f"the library says that {url!s} is wrong", url)):
        assert "s3c" not in text
        assert "host" in text or not unambiguous(url)


@given(SECRETS)
def test_errors_hold_no_password(secret: str) -> None:
    """Whatever raises them: the words, the value and what is sent to another process."""
    url = f"postgresql://ada:s3c{secret}ret@host/ledger"
    refused = InputError("ledger", url, "is wrong")
    down = UnavailableError(f"ledger: {shown(url)} and http://ada:s3cret@host cannot be reached")
    for error in (refused, down, pickle.loads(pickle.dumps(refused))):  # noqa: S301 - our own bytes
        assert "s3c" not in f"{error}{error!r}{vars(error)}"


def test_settings_and_stores_hide_their_urls() -> None:
    """A trace shows the values of variables."""
    url = "http://ada:s3cret@host"
    assert "s3cret" not in repr(Settings(mlflow=url, ledger=url))
    assert "s3cret" not in repr(Store(uri=url))


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "p?ss", "p#ss", "a@b/c?d#e"])
def test_password_that_ends_elsewhere_is_refused(password: str) -> None:
    """Libraries would take a part of it for the host, and ask the network for that."""
    url = f"postgresql://ada:{password}@127.0.0.1:1/ledger"
    assert not unambiguous(url)
    assert unambiguous(f"postgresql://ada:{quote(password, safe='')}@127.0.0.1:1/ledger")
    for open_it in (open_ledger, lambda url: Store(uri=url).client):
        with pytest.raises(InputError, match="%40") as refused:
            open_it(url)
        assert not any(part in str(refused.value) for part in ("p@", "ss@", "b/c", "d#e"))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_sqlite_file_survives_its_url(name: str) -> None:
    """Any path that a file can have."""
    file = Path("/tmp") / name  # noqa: S108 - nothing is written there
    assert sqlite_file(sqlite_url(file)) == file
    assert sqlite_file(f"{sqlite_url(file)}?timeout=3") == file


def test_plain_paths_stay_plain() -> None:
    """A URL is as one writes it where nothing has to be escaped."""
    assert sqlite_url(Path("/home/ada/my gangplan/ü.db")) == "sqlite:////home/ada/my gangplan/ü.db"
    assert sqlite_file("postgresql://host/db") is None


@given(SECRETS, st.sampled_from(PLACES))
def test_a_text_with_a_secret_in_a_url_is_found_out(secret: str, place: str) -> None:
    """Whatever characters the password has, escaped or, before the host, not; alone or within other text."""
    escaped = place.format(quote(secret, safe=""))
    assert carries_secret(escaped)
    assert carries_secret(f'{{"to": "{escaped}"}}')
    assert carries_secret(place.format(secret)) or "@" not in place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h100-lab",
        "http://mlflow:5000",
        "postgresql://gangplan@db/ledger?sslmode=require",
        "postgresql://db/ledger?user=ada",
        "kueue://-/vision/gangplan?resource=nvidia.com/gpu",
        "sqlite:////data/ledger.db?mode=ro",
        "see https://example.org/a/b and mail ada@example.org",
    ],
)
def test_a_text_without_a_secret_is_let_through(text: str) -> None:
    """A user's name alone is no secret of a database; files and clusters have none."""
    assert not carries_secret(text)
