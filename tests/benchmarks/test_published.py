"""The public traces are fetched from their publishers once, whole, or what is wrong is said; the readers take them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from benchmarks.parts import published, traces
from benchmarks.parts.published import NotFetchedError, Published, fetch

from gangplan.telemetry.sources.folder import read_path

COLUMNS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time"
)
POD = "openb-pod-{0:04},8000,30517,1,500,,BE,Running,{1},{2},9964900"
PODS = "\n".join([COLUMNS, *(POD.format(n, 9_964_800 + 3600 * n, 12_902_400 - 60 * n) for n in range(800)), ""])


@contextmanager
def _publisher(content: bytes, breaks: int = 0, ranges: bool = True) -> Generator[tuple[str, list[str]]]:
    """Serve a file; the first `breaks` answers end half-way. Yield its address and the ranges that were asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        """One answer."""

        def do_GET(self) -> None:
            """Send the file, or the rest of it."""
            wanted = self.headers.get("Range", "")
            asked.append(wanted)
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and ranges else 0
            body = content[first:]
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if len(asked) <= breaks else body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/csv/openb_pod_list_default.csv", asked
    finally:
        server.shutdown()
        server.server_close()


def _file(url: str, content: bytes) -> Published:
    """Describe a file as a publisher's."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Published(name="openb", url=url, sha256=sha256, size=len(content), terms="ours", copy="nowhere.csv")


def test_broken_download_is_gone_on_with(tmp_path: Path) -> None:
    """After two breaks half-way the file is whole, and nothing of it came twice; then it is not asked for again."""
    content = PODS.encode()
    with _publisher(content, breaks=2) as (url, asked):
        path = fetch(_file(url, content), tmp_path)
        half = len(content) // 2
        assert asked == ["", f"bytes={half}-", f"bytes={half + (len(content) - half) // 2}-"]
        assert path.read_bytes() == content
        assert path == tmp_path / "openb" / "openb_pod_list_default.csv"
        assert fetch(_file(url, content), tmp_path) == path
        assert len(asked) == 3


def test_next_call_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    """A download that breaks each time is given up with a word; its part serves the next call."""
    content = PODS.encode()
    with _publisher(content, breaks=99) as (url, _):
        with pytest.raises(NotFetchedError, match="goes on where it stopped"):
            fetch(_file(url, content), tmp_path)
        part = tmp_path / "openb" / "openb_pod_list_default.csv.part"
        there = part.stat().st_size
        assert 0 < there < len(content)
    with _publisher(content) as (url, asked):
        fetch(_file(url, content), tmp_path)
        assert asked == [f"bytes={there}-"]
    assert not part.exists()


def test_server_without_ranges_begins_again(tmp_path: Path) -> None:
    """Where a server sends the whole file instead of the rest, that is taken."""
    content = PODS.encode()
    with _publisher(content, breaks=1, ranges=False) as (url, _):
        assert fetch(_file(url, content), tmp_path).read_bytes() == content


@pytest.mark.parametrize("sent", [PODS.replace("500", "501", 1), PODS + "more\n" * 100_000, PODS[:1000]])
def test_another_file_is_named_and_not_kept(sent: str, tmp_path: Path) -> None:
    """What comes with another sum, longer or shorter, is thrown away and named."""
    with _publisher(sent.encode()) as (url, _), pytest.raises(NotFetchedError, match="what came is not the file"):
        fetch(_file(url, PODS.encode()), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    """Without a network the error names the address and where the file belongs."""
    with _publisher(b"") as (url, _):
        pass
    with pytest.raises(NotFetchedError, match=r"could not be fetched \(ConnectError\).*bring the file from another"):
        fetch(_file(url, b"x"), tmp_path)


def test_readers_take_the_publishers_file_if_its_sum_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in TRACES is read as the trace; one with another sum is named, not used; without any, a word says how."""
    content = PODS.encode()
    monkeypatch.setenv("TRACES", str(tmp_path / "mine"))
    monkeypatch.setattr(published, "COPIES", tmp_path / "no copies")
    with _publisher(content, breaks=1) as (url, _):
        monkeypatch.setitem(published.FILES, "openb", _file(url, content))
        assert published.absent("openb").startswith("openb: neither in ")
        with pytest.raises(FileNotFoundError, match="`make traces` fetches it"):
            traces.file("openb")
        assert published.main([published.FILES["openb"]]) == 0
        assert "openb_pod_list_default.csv (" in capsys.readouterr().out
    assert published.absent("openb") == ""
    found = read_path(traces.file("openb"), datetime(2026, 3, 2, tzinfo=UTC))
    assert found.jobs["gpus"].unique().to_list() == [0.5]
    assert found.end - found.start == timedelta(hours=816)
    traces.file("openb").write_bytes(content.replace(b"500", b"900"))
    assert published.find("openb") is None
    assert "is not what http" in capsys.readouterr().err
    assert published.main([published.FILES["openb"]]) == 1
    assert "remove it and try again" in capsys.readouterr().out


@pytest.mark.parametrize("name", published.FILES)
def test_copies_are_what_the_publishers_give(name: str) -> None:
    """Each file has an address at a commit; the copy beside the project has the publisher's rows, none changed."""
    import gzip

    file = published.FILES[name]
    assert file.url.startswith("https://raw.githubusercontent.com/")
    assert len(file.url.split("/")[5]) == 40
    copy = published.COPIES / file.copy
    if not copy.exists():
        pytest.skip(f"no copy of {name} beside the project")
    assert hashlib.sha256(gzip.decompress(copy.read_bytes())).hexdigest() == file.sha256
