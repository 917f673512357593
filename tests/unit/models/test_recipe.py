from __future__ import annotations

from pathlib import Path

import pytest

from falcon_wsgi.errors import TrainingDataInvalid
from falcon_wsgi.models.recipe import read_labelled_texts

GOOD = b"text,label\nfine,up\nawful,down\ngreat,up\nbad,down\n"


def written(folder: Path, contents: bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(contents)
    return path


def test_texts_and_labels_are_read_in_order(tmp_path: Path) -> None:
    rows = read_labelled_texts(written(tmp_path, GOOD))
    assert rows.texts == ["fine", "awful", "great", "bad"]
    assert rows.labels == ["up", "down", "up", "down"]
    assert len(rows.sha256) == 64


@pytest.mark.parametrize(
    "contents",
    [
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD + b"\n\n",
        b"\n" + GOOD,
        b"id,Label , TEXT\n1,up,fine\n2,down,awful\n3,up,great\n4,down,bad\n",
    ],
)
def test_byte_order_mark_line_ends_blank_lines_and_other_columns_do_not_matter(
    tmp_path: Path, contents: bytes
) -> None:
    rows = read_labelled_texts(written(tmp_path, contents))
    assert (rows.texts, rows.labels) == (["fine", "awful", "great", "bad"], ["up", "down", "up", "down"])


def test_quoted_newlines_commas_and_line_separators_belong_to_the_text(tmp_path: Path) -> None:
    contents = 'text,label\n"a, ""b""\nc",x\nd\u2028e,y\n1,x\n2,y\n'.encode()
    assert read_labelled_texts(written(tmp_path, contents)).texts[:2] == ['a, "b"\nc', "d\u2028e"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "mine.csv is empty"),
        (b" \n\n", "mine.csv is empty"),
        (b"text,label\n", "mine.csv has a header but no rows"),
        (
            b"text;label\na;b\n",
            "line 1: the header has no column text and no column label (it has: text;label)",
        ),
        (b"text,mark\na,b\n", "line 1: the header has no column label (it has: text, mark)"),
        (b"fine,up\nawful,down\n", "line 1: the header has no column text and no column label"),
        (GOOD + b"  ,up\n", "line 6: the text is empty"),
        (GOOD + b"ok,\n", "line 6: the label is empty"),
        (GOOD + b'"two\nlines",up\nok, \n', "line 8: the label is empty"),
        (GOOD + b"alone\n", "line 6: 1 column; text and label are both needed"),
        (GOOD + b"ok," + b"x" * 101 + b"\n", "line 6: the label is longer than 100 characters"),
        (GOOD + b"caf\xe9,up\n", "line 6: not UTF-8 (byte 0xe9)"),
        (GOOD + b"a\0b,up\n", "line 6: a NUL byte"),
        (b"PK\x03\x04\n\0\0\0", "line 2: a NUL byte; this is no CSV text file"),
        (GOOD + b'"open,up\n', "line 6: not valid CSV"),
        (GOOD + b'"a"b,up\n', "line 6: not valid CSV"),
        (GOOD + b"x" * 200_000 + b",up\n", "line 6: not valid CSV: field larger than field limit"),
        (b"text,label\na,up\nb,up\n", "has only one label, 'up'; at least 2 are needed"),
        (GOOD + b"ok,once\n", "line 6: the only row with the label 'once'; each label needs at least 2"),
        (
            b"text,label\n" + b"".join(b"a,%d\n" % (i // 2) for i in range(102)),
            "has 51 different labels; at most 50",
        ),
    ],
)
def test_a_fault_is_one_line_that_names_its_place(tmp_path: Path, contents: bytes, message: str) -> None:
    with pytest.raises(TrainingDataInvalid) as caught:
        read_labelled_texts(written(tmp_path, contents))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match=r"none\.csv cannot be read: No such file"):
        read_labelled_texts(tmp_path / "none.csv")
    with pytest.raises(TrainingDataInvalid, match="is a folder; a CSV file is needed"):
        read_labelled_texts(tmp_path)
