"""The bytes of a file -> text in UTF-8, whatever it is packed in; what is no text is named for what it is."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

from gangplan.errors import InputError

_MARKS = {  # the longer mark first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a file begins with that says its encoding."""

_NO_TEXT = {
    b"PK\x03\x04": "is an Excel workbook or a zip archive: save the sheet as CSV UTF-8, or unpack it",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook: save the sheet as CSV UTF-8",
    b"%PDF": "is a PDF: give the table itself, as CSV UTF-8",
    b"BZh": "is packed with bzip2: unpack it",
    b"\xfd7zXZ": "is packed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "is packed with zstd: unpack it",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file: fetch it with `git lfs pull`",
}


def read_text(path: Path, encoding: str = "") -> bytes:
    """Return a file's text in UTF-8, with line ends of one kind; `encoding` is that of a file that does not say it."""
    raw = path.read_bytes()
    if path.name.endswith(".gz") or raw.startswith(b"\x1f\x8b"):
        raw = gzip.decompress(raw)
    remedy = next((remedy for start, remedy in _NO_TEXT.items() if raw.startswith(start)), None)
    if remedy:
        raise InputError("source", path, remedy)
    text = _in_utf8(raw, encoding, path)
    return text if b"\n" in text else text.replace(b"\r", b"\n")  # lines of an old Mac


def _in_utf8(raw: bytes, encoding: str, path: Path) -> bytes:
    """Return the text in UTF-8 without a byte order mark."""
    marked = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), encoding)
    if marked:
        return _decoded(raw, marked, path).encode()
    if raw.isascii() and b"\0" not in raw:
        return raw
    if b"\0" in raw:
        remedy = (
            "has zero bytes, as UTF-16 without its mark has: save it as CSV UTF-8, or name its encoding in a mapping"
        )
        raise InputError("source", path, remedy)
    _decoded(raw, "utf-8", path)
    return raw


def _decoded(raw: bytes, encoding: str, path: Path) -> str:
    """Decode text, or name the first line that is not in that encoding."""
    try:
        return raw.decode(encoding)
    except LookupError:
        raise InputError("encoding", encoding, "is none that Python knows: give it like utf-8 or cp1252") from None
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        what = "a CSV file in UTF-8" if encoding == "utf-8" else f"text in {encoding}"
        why = f"byte 0x{byte:02x} in line {line}"
        remedy = (
            "save it as CSV UTF-8, or name its encoding in a mapping (encoding: cp1252 is that of Excel's plain CSV)"
        )
        raise InputError("source", path, f"is not {what} ({why}): {remedy}") from None
