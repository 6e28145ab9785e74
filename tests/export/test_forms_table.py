"""The guide's table says what is taken from each form and what is asked: no more and no less."""

import pytest

from tests.export.forms_table import ALL_FORMS, committed, described, table


def test_the_table_in_the_guide_is_what_the_exports_say() -> None:
    assert committed() == table(), "make export-forms writes it"


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name, form in ALL_FORMS.items() for flag in form.asked]
)
def test_what_is_asked_has_to_be_said(name: str, flag: str) -> None:
    done = described(ALL_FORMS[name], without=flag)
    assert done.exit_code == 1
    assert flag in done.output.splitlines()[-1]
