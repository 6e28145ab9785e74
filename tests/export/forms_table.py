"""`make export-forms`: the table of docs/export.md, from exports of each form that it names."""

import contextlib
import re
import tempfile
from pathlib import Path
from unittest import mock

from click.testing import CliRunner, Result

from convd.commands.export import command
from tests.export.other_forms import OTHER_FORMS
from tests.export.public_forms import PUBLIC_FORMS, PublicForm

PAGE = Path("docs/export.md")
BEGIN, END = "<!-- export-forms: begin -->\n", "<!-- export-forms: end -->\n"
ALL_FORMS = PUBLIC_FORMS | OTHER_FORMS

_FACT = re.compile(
    r"^(labels, preprocessing, normalisation|\S.{15}) .*  \[([^\]]*)\]$", re.MULTILINE
)
_WORDS = {
    "resize": "size",
    "crop": "size",
    "interpolation": "filter",
    "EXIF orientation": "filter",
    "channel order": "channels",
    "mean": "mean and std",
    "std": "mean and std",
    "normalisation": "mean and std",
    "labels, preprocessing, normalisation": "all of it",
}
_NOT_TAKEN = ("--", "default", "the network has no such layers")


def described(form: PublicForm, *, without: str | None = None) -> Result:
    """Read a form in a folder of its own, leaving out a flag; nothing is converted."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch("convd.commands.export.plan", return_value={}),
    ):
        form.make()
        words = [*form.words(without), "--name", "net", "--repository", "repository", "--dry-run"]
        return CliRunner().invoke(command, words)


def row(form: PublicForm) -> str:
    """The row of a form."""
    done = described(form)
    assert done.exit_code == 0, done.output
    taken = dict.fromkeys(
        _WORDS.get(subject.strip(), subject.strip())
        for subject, origin in _FACT.findall(done.output)
        if not origin.startswith(_NOT_TAKEN)
    )
    cells = [
        form.have,
        f"`convd export {form.typed}`",
        ", ".join(taken) or "the network",
        ", ".join(f"`{flag}`" for flag in form.asked) or "nothing",
    ]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """The whole table."""
    head = "| You have | You type | What is taken from it | What is asked |"
    return "\n".join([head, "| --- | --- | --- | --- |", *map(row, ALL_FORMS.values())]) + "\n"


def committed() -> str:
    """The table as it is in the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
