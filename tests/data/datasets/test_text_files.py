"""A text file that is no table is refused with the line, the encoding and the cure."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tables import log_table, tabular

from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

LINES = log_table().select("user", "item", "day", "click").write_csv().splitlines()


def changed(place: int, line: str) -> str:
    return "\n".join([*LINES[:place], line, *LINES[place + 1 :]]) + "\n"


def refusal(folder: Path, content: bytes, name: str = "log.csv", **changes: object) -> str:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        prepare(tabular(folder, path=str(folder / name), **changes), folder / "cache")
    assert "\n" not in str(error.value)
    return str(error.value)


WHOLE = "\n".join(LINES) + "\n"
BROKEN = {
    "UTF-16": (WHOLE.encode("utf-16"), "It is UTF-16: convert it, iconv -f UTF-16 -t UTF-8 log.csv"),
    "UTF-16 without a mark": (WHOLE.encode("utf-16-le"), "It is UTF-16"),
    "CR alone": (WHOLE.replace("\n", "\r").encode(), r"They end in CR alone: convert it, tr '\r' '\n' < log.csv"),
    "Latin-1": (changed(100, "3,café,20220503,1").encode("latin-1"), "UTF-8 text. Line 101 is not, after '3,caf'"),
    "Latin-1 in the header": (WHOLE.replace("item", "îtem").encode("latin-1"), "Line 1 is not"),
    "a blank line": (changed(100, "").encode(), "Line 101 is blank: remove it"),
    "a blank line at the end": ((WHOLE + "\n\n").encode(), "Line 402 is blank: remove it"),
    "an open quote": (changed(100, '3,"i5,20220503,1').encode(), "The one in line 101 is never closed"),
    "two files": ((WHOLE + WHOLE).encode(), "Line 402 repeats it: two files were glued together"),
    "a field too many": (changed(100, "3,i5,20220503,1,7").encode(), "Line 101 has 5: quote the text"),
    "a name twice": (WHOLE.replace("item", "user", 1).encode(), "Its header has column user twice: rename one"),
    "a row too short at the end": ((WHOLE + "3,i5").encode(), "Its last row has 2 of 4 fields: the file was cut short"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_with_a_text_file_is_named_with_its_cure(tmp_path: Path, what: str) -> None:
    content, message = BROKEN[what]
    features = {"user": {}} if "item" not in content.decode("latin-1").splitlines()[0] else {"user": {}, "item": {}}
    assert message in refusal(tmp_path, content, features=features)


def test_a_compressed_file_is_looked_into_too(tmp_path: Path) -> None:
    content, message = BROKEN["Latin-1"]
    assert message in refusal(tmp_path, gzip.compress(content), "log.csv.gz")


def test_a_misspelt_column_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    assert "no such column" in refusal(tmp_path, BROKEN["a blank line"][0], tasks={"clik": {}})


def test_quoted_line_ends_are_fine(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(changed(100, '3,"a\n\nb",20220503,1'))
    assert prepare(tabular(tmp_path), tmp_path / "cache").statistics["rows"] == 400
