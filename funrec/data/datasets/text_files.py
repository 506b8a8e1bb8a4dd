"""What can be wrong with a text file, said with the line and the cure."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from funrec.utils.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
COMPRESSIONS = (".gz", ".zst")
_ENDS_READ, _LONGEST_HEADER = 1 << 16, 1 << 24
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def separator_of(file: Path) -> str:
    """Return what stands between the fields of a text file by its suffix."""
    return next((SEPARATORS[suffix] for suffix in map(str.lower, file.suffixes) if suffix in SEPARATORS), ",")


def check_text(file: Path, separator: str, columns: Sequence[str] = ()) -> None:
    """Look at both ends of a text file that is not compressed: encoding, line ends, header, and a whole last row.

    `columns` are the names of its columns if it has no header line.
    """
    if not file.stat().st_size:
        raise InputError(f"{file} should hold rows. It is empty.")
    if file.suffix.lower() in COMPRESSIONS:
        return
    with file.open("rb") as stream:
        head = stream.read(_ENDS_READ)
        stream.seek(0)
        header = stream.readline(_LONGEST_HEADER)
        stream.seek(0, 2)
        stream.seek(max(len(header), stream.tell() - _ENDS_READ))
        tail = stream.read()
    if head.startswith(_UTF_16) or head[:1024].count(0) > len(head[:1024]) // 4:
        raise InputError(
            f"{file} should be UTF-8 text. It is UTF-16: convert it, iconv -f UTF-16 -t UTF-8 {file.name} > mended.csv."
        )
    if 0 in head[:1024]:
        raise InputError(f"{file} should be UTF-8 text. It holds null bytes: is it what its name says it is?")
    if b"\n" not in head and b"\r" in head:
        raise InputError(
            f"{file} should have lines that end in LF or CR LF. They end in CR alone: convert it, "
            f"tr '\\r' '\\n' < {file.name} > mended.csv."
        )
    if (problem := _undecodable(file, header, 1)) is not None:
        raise InputError(problem)
    names = _fields(header, separator)
    if columns and len(names) != len(columns):
        raise InputError(
            f"dataset.columns should name every column of {file}, whose first row has {len(names)} fields. Received: "
            f"{len(columns)} names. Check dataset.separator too."
        )
    names = list(columns) or names
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        what = f"column {twice[0]}" if twice[0] else "a column without a name"
        raise InputError(f"{file} should have columns of distinct names. Its header has {what} twice: rename one.")
    _check_last_row(file, tail, separator, len(names))


def _check_last_row(file: Path, tail: bytes, separator: str, expected: int) -> None:
    *before, last = tail.rstrip(b"\r\n").split(b"\n")
    if not last:
        return
    fields = len(_fields(last, separator))
    if last.count(b'"') % 2:  # it begins or ends within a quoted field, which may itself hold line ends
        if any(line.count(b'"') % 2 for line in before[1:]):
            return
        fields = min(fields, expected - 1)
    if fields < expected:
        problem = diagnose_text(file, separator)
        raise InputError(
            problem
            or f"{file} should end with a whole row. Its last row has {fields} of {expected} fields: "
            "the file was cut short; copy or download it again."
        )


def diagnose_text(file: Path, separator: str | None = None) -> str | None:
    """Read a file that was no table line by line, and return what is wrong with it, if anything."""
    if file.suffix.lower() not in (*SEPARATORS, ".gz"):
        return None
    separator = separator or separator_of(file)
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            return _find_problem(file, iter(stream), separator)
    except (OSError, EOFError):
        return None


def _find_problem(file: Path, lines: Iterator[bytes], separator: str) -> str | None:
    header = next(lines, b"").rstrip(b"\r\n")
    expected, mark = len(_fields(header, separator)), separator.encode()
    opened = None
    for number, line in enumerate(lines, start=2):
        line = line.rstrip(b"\r\n")
        if not line.isascii() and (problem := _undecodable(file, line, number)) is not None:
            return problem
        if line.count(b'"') % 2:
            opened = number if opened is None else None
        if opened is not None:
            continue
        if not line and expected > 1:
            return f"{file} should hold a row in every line. Line {number:,} is blank: remove it."
        if line == header and line:
            return (
                f"{file} should have one header. Line {number:,} repeats it: two files were glued together; "
                "remove that line, or put the files side by side in a folder."
            )
        if line.count(mark) >= expected and (fields := len(_fields(line, separator))) > expected:
            return (
                f"{file} should have {expected} fields in every row, as its header does. Line {number:,} has {fields}: "
                "quote the text that holds a separator."
            )
    if opened is not None:
        return f"{file} should close every quote. The one in line {opened:,} is never closed: mend that line."
    return None


def _undecodable(file: Path, line: bytes, number: int) -> str | None:
    try:
        line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = line[: error.start][-20:].decode("latin-1")
        return (
            f"{file} should be UTF-8 text. Line {number:,} is not, after {before!r}; "
            f"if it is Latin-1, convert it: iconv -f LATIN1 -t UTF-8 {file.name} > mended.csv."
        )
    return None


def _fields(line: bytes, separator: str) -> list[str]:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    try:
        return next(csv.reader([text], delimiter=separator), [])
    except (csv.Error, TypeError):
        return text.split(separator)
