"""The public traces as their publishers give them: where each lies, its sum, and `make traces`, which fetches them.

A file is fetched once, at a fixed commit, into the folder TRACES (default .run/traces). It is used only if its sha256
is right. Where it is not there, the copy beside the project serves (../shared/data), if there is one.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from benchmarks.parts.figures import ROOT

COPIES = ROOT.parent / "shared" / "data"
TRIES = 4
"""How often a broken download is gone on with, before it is given up until the next call."""

_GITHUB = "https://raw.githubusercontent.com"
_ALIBABA = "Alibaba Cluster Trace Program, for study and research"


class NotFetchedError(Exception):
    """A file that could not be fetched; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of a publisher: its name here, address, sha256, size in bytes, terms, and its copy in ../shared/data."""

    name: str
    url: str
    sha256: str
    size: int
    terms: str
    copy: str

    def path(self, folder: Path) -> Path:
        """Return where it lies, or would lie, in a folder of traces: under the publisher's own name."""
        return folder / self.name / self.url.rpartition("/")[2]

    def is_at(self, path: Path) -> bool:
        """Return whether a file is this one, byte by byte."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


_ALL = (
    Published(
        name="openb",
        url=f"{_GITHUB}/alibaba/clusterdata/50a91c7c74abe3b658188dc78ac1dd302970d40c/"
        "cluster-trace-gpu-v2023/csv/openb_pod_list_default.csv",
        sha256="1ee7ed79c27a3b0861cda8ddba86a004c6aba904caafa329a76ae93ca63834a8",
        size=575_468,
        terms=_ALIBABA,
        copy="openb/pods.csv.gz",
    ),
    Published(
        name="dlrm",
        url=f"{_GITHUB}/alibaba/clusterdata/358ef992044f8393cb17d750e360cb5c26b7bdae/"
        "cluster-trace-gpu-v2025/disaggregated_DLRM_trace.csv",
        sha256="fb17bc4b3f412d5280f70f04a1bdf2adfc4429d1e61237a5b106e86206414295",
        size=2_118_900,
        terms=_ALIBABA,
        copy="dlrm/instances.csv.gz",
    ),
    Published(
        name="genai",
        url=f"{_GITHUB}/alibaba/clusterdata/7a6c496e4f4b6ce6150be8f881cb051bf2abff42/"
        "cluster-trace-v2026-GenAI/lora_request_trace.csv",
        sha256="263fb88f1095f62d360cf89ded8cfc24fa2c5d111c1b16e7aaa9ccbfc4b37d78",
        size=2_012_418,
        terms=_ALIBABA,
        copy="genai/lora_requests.csv.gz",
    ),
    Published(
        name="azure-llm-code",
        url=f"{_GITHUB}/Azure/AzurePublicDataset/790921015d50dd6aae7f7e47f39ba0e235ad6b08/"
        "data/AzureLLMInferenceTrace_code.csv",
        sha256="54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        size=320_117,
        terms="Azure Public Dataset, CC BY 4.0",
        copy="azure-llm/code.csv.gz",
    ),
    Published(
        name="azure-llm-conv",
        url=f"{_GITHUB}/Azure/AzurePublicDataset/790921015d50dd6aae7f7e47f39ba0e235ad6b08/"
        "data/AzureLLMInferenceTrace_conv.csv",
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        size=719_188,
        terms="Azure Public Dataset, CC BY 4.0",
        copy="azure-llm/conv.csv.gz",
    ),
)

FILES = {file.name: file for file in _ALL}
"""The files of the traces that figures are made from, by their names here."""


def folder() -> Path:
    """Return the folder of the traces."""
    return Path(os.environ.get("TRACES") or ROOT / ".run" / "traces")


def find(name: str) -> Path | None:
    """Return where a trace lies: the publisher's file if its sum is right, else the copy, else none."""
    file = FILES[name]
    path, copy = file.path(folder()), COPIES / file.copy
    if path.exists():
        if file.is_at(path):
            return path
        print(f"{path}: is not what {file.url} gives: not used; remove it, then `make traces`", file=sys.stderr)
    return copy if copy.exists() else None


def absent(*names: str) -> str:
    """Return what to do about the traces that are nowhere, "" if all are there."""
    missing = [name for name in names if find(name) is None]
    return f"{', '.join(missing)}: neither in {folder()} nor in {COPIES}: `make traces` fetches it" if missing else ""


def fetch(file: Published, into: Path, progress: Progress | None = None) -> Path:
    """Return the file, fetched if it is not there; a part that is there is gone on with.

    Raises
    ------
    NotFetchedError
        When it cannot be fetched, or is not what it should be; a part of it stays for the next call.
    """
    path = file.path(into)
    if path.exists():
        if file.is_at(path):
            return path
        raise NotFetchedError(f"{path}: is another file (its sha256 is not {file.sha256}): remove it and try again")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    task = progress.add_task(file.name, total=file.size) if progress else None
    for left in reversed(range(TRIES)):
        try:
            _go_on(file, part, progress, task)
            break
        except httpx.HTTPError as error:
            if left == 0:
                raise NotFetchedError(_by_hand(file, path, type(error).__name__)) from None
    if not file.is_at(part):
        part.unlink()
        raise NotFetchedError(f"{file.url}: what came is not the file of sha256 {file.sha256}: it was thrown away")
    part.rename(path)
    return path


def _go_on(file: Published, part: Path, progress: Progress | None, task: TaskID | None) -> None:
    """Append to a part what it lacks, from an answer in one piece; never more than the file has."""
    there = part.stat().st_size if part.exists() else 0
    if there >= file.size:
        return
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    with httpx.stream("GET", file.url, headers=headers, timeout=30, follow_redirects=True) as answer:
        answer.raise_for_status()
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with part.open("ab" if goes_on else "wb") as written:
            for piece in answer.iter_raw():  # what has come before a break is kept
                written.write(piece[: file.size + 1 - written.tell()])
                if progress and task is not None:
                    progress.update(task, completed=written.tell())
                if written.tell() > file.size:
                    return  # another file: its sum says so


def _by_hand(file: Published, path: Path, why: str) -> str:
    """Say how to get a file without our help."""
    return (
        f"{file.url}: could not be fetched ({why}): call `make traces` again, which goes on where it stopped; where "
        f"there is no network, bring the file from another machine to {path}, and `make traces` checks it"
    )


def main(files: Sequence[Published] = _ALL) -> int:
    """Fetch all files, and say what became of each; the exit code is 1 if one is missing."""
    console = Console(soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    failed = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for file in files:
            try:
                path = fetch(file, folder(), progress)
                console.print(f"{file.name}: {path} ({file.size:,} bytes, {file.terms})", highlight=False)
            except NotFetchedError as error:
                failed += 1
                console.print(f"{file.name}: {error}", highlight=False, style="red")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
