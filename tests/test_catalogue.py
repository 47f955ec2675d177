"""The catalogue of invalid inputs and faults, docs/faults.md, and the tests that carry its ids."""

import re
from itertools import groupby
from pathlib import Path

from tests.conftest import catalogue_rows, rows_in

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def rows_of_tests():
    """Returns the ids in the names of tests, with one of the names."""
    pattern = r"^def (test_[A-Z]{3}_\d{2}\w*)\("
    names = [
        name
        for path in TESTS
        for name in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    return {row: name for name in names for row in rows_in(name)}


def test_the_rows_are_numbered_without_gaps():
    numbers = {
        kind: [int(row[4:]) for row in rows]
        for kind, rows in groupby(catalogue_rows(), key=lambda row: row[:3])
    }
    kinds = ["IMG", "CFG", "WGT", "RUN", "OUT", "ENV", "MSK", "ARR", "CMD", "VID", "WEB"]
    assert list(numbers) == kinds
    for kind, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), kind


def test_every_row_has_a_test():
    assert sorted(set(catalogue_rows()) - set(rows_of_tests())) == []


def test_every_id_of_a_test_is_in_the_catalogue():
    unknown = {row: name for row, name in rows_of_tests().items() if row not in catalogue_rows()}
    assert unknown == {}
