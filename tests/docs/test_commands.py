"""Every command in the documents exists with its options; `make test-docs` runs them all."""

import re
import shlex

import click
import pytest

from convd.commands.main import SUMMARIES, main
from tests.docs.commands import DOCUMENTS, blocks, commands, spans
from tests.docs.run_commands import NOT_RUN, reason_not_to_run
from tests.support import ROOT


def words_of(command: str) -> list[str]:
    """The words of a convd command, up to where the shell goes on with something else."""
    words = shlex.split(command, comments=True)
    ends = [index for index, word in enumerate(words) if word in ("&", "&&", "|", ">", "2>")]
    return words[: min(ends, default=len(words))]


def unknown(words: list[str]) -> str:
    """What is wrong with a command; empty if nothing is."""
    if len(words) < 2 or words[1].startswith("-") or words[1].isupper():
        return ""
    context = click.Context(main)
    if words[1] not in SUMMARIES:
        return f"there is no command {words[1]}"
    command = main.get_command(context, words[1])
    while isinstance(command, click.Group) and len(words) > 2 and words[2] in command.commands:
        command, words = command.commands[words[2]], words[1:]
    assert command is not None
    known = {
        flag
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts, "--help")
    }
    flags = [word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]+.*", word)]
    return ", ".join(flag for flag in flags if flag not in known)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_in_a_document_exists(document) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    typed = [one for block in blocks(document) if block.language == "sh" for one in commands(block)]
    mentioned = list(spans(document))
    for text in [one for one in typed if one.startswith("convd ")] + mentioned:
        assert not unknown(words_of(text.replace("[", "").replace("]", ""))), text
    assert typed or document.name in ("export.md", "commands.md")
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for one in typed:
        if one.startswith("make "):
            assert one.split()[1] in targets, one


def test_what_is_not_run_is_said_and_still_there() -> None:
    every = [
        one
        for document in DOCUMENTS
        for block in blocks(document)
        if block.language == "sh"
        for one in commands(block)
    ]
    for beginning in NOT_RUN:
        assert any(beginning in one for one in every), f"nothing needs {beginning!r} any more"
    assert sum(not reason_not_to_run(one) for one in every) >= 15
