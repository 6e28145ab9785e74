"""Class names in the forms that tools write them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.commands.option_types import Labels
from convd.export.errors import SourceError
from convd.export.sources.label_files import read_labels, split_labels

NAMES = ("Katze", "Hund, großer", "Maus")
PLAIN = ("Katze", "Hund", "Maus")


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"Katze\nHund\nMaus\n", PLAIN),
        (b"Katze\r\nHund\r\nMaus\r\n\r\n", PLAIN),
        ("\ufeffKatze\nHund\nMaus".encode(), PLAIN),
        ("Katze\nHund, großer\nMaus".encode("utf-16"), NAMES),
        ("Katze\nHund, großer\nMaus".encode("utf-16-le"), NAMES),
        ("Katze\nHund, großer\nMaus".encode("utf-16-be"), NAMES),
        ("Katze\nHund, großer\nMaus".encode("latin-1"), NAMES),
        (b"0 Katze\n1 Hund\n2 Maus\n", PLAIN),
        (b"1: Katze\n2: Hund\n3: Maus\n", PLAIN),
        (b"Katze 0\nHund 1\nMaus 2\n", PLAIN),
        (b"2,Maus\n0,Katze\n1,Hund\n", PLAIN),
        (b"index,name\n0,Katze\n1,Hund\n2,Maus\n", PLAIN),
        ('id;label\n0;Katze\n1;"Hund, großer"\n2;Maus\n'.encode(), NAMES),
        ('"Katze"\n"Hund, großer"\n"Maus"\n'.encode(), NAMES),
        (b"Katze,Hund,Maus", PLAIN),
        (json.dumps(NAMES).encode(), NAMES),
        (json.dumps({"0": "Katze", "2": "Maus", "1": "Hund"}).encode(), PLAIN),
        (json.dumps({"Katze": 0, "Hund": 1, "Maus": 2}).encode(), PLAIN),
        (json.dumps({"id2label": {"0": "Katze", "1": "Hund", "2": "Maus"}}).encode(), PLAIN),
        (b'{"0": ["n01", "Katze"], "1": ["n02", "Hund"], "2": ["n03", "Maus"]}', PLAIN),
        # Numbers that are no indices belong to the names.
        (b"1 Euro\n2 Euro\n", ("1 Euro", "2 Euro")),
        (b"0\n1\n2\n", ("0", "1", "2")),
        (b"route 66\nroute 7\n", ("route 66", "route 7")),
        (b"10 Katze\n20 Hund\n", ("10 Katze", "20 Hund")),
    ],
)
def test_labels_are_read(data: bytes, labels: tuple[str, ...]) -> None:
    assert read_labels(data, "labels.txt").labels == labels


def test_what_was_done_is_said() -> None:
    latin = read_labels("größer\nkleiner\n".encode("latin-1"), "labels.txt")
    assert latin.note == "labels.txt is not UTF-8: it was read as Latin-1"
    numbered = read_labels(b"0 cat\n1 dog\n", "labels.txt")
    assert numbered.note == "labels.txt: indices are left out of the labels: cat, dog, ..."
    assert read_labels(b"cat\ndog\n", "labels.txt").note is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no labels"),
        (b"\n\n", "holds no labels"),
        (b'{"0": "cat", "2": "dog"}', "not 0 to 1"),
        (b'{"cat": "dog"}', "has no indices"),
        (b'["cat", ', "looks like JSON and is damaged"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_labels(data, "labels.txt")


NAME = st.text(st.characters(codec="utf-8", categories=["L"]), min_size=1)


@given(st.lists(NAME, min_size=2, unique=True), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_any_names_come_back_in_any_unicode_encoding(names: list[str], encoding: str) -> None:
    assert read_labels("\n".join(names).encode(encoding), "labels.txt").labels == tuple(names)


def test_the_flag_takes_names_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffKatze\nHund".encode())
    assert Labels().convert(str(file), None, None) == ("Katze", "Hund")
    assert Labels().convert("cat, dog", None, None) == ("cat", "dog")
    assert split_labels('cat,"dog, large"') == ("cat", "dog, large")
