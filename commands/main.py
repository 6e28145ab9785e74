"""The command line: one sub-command per step of a model's life.

Each sub-command lives in `commands/` and is imported only when it is called, so that serving needs
no training framework and `convd --help` answers at once.
"""

import difflib
import importlib

import click

from convd import __version__
from convd.installation import install_command

SUMMARIES = {
    "doctor": "Check this machine, the settings and a repository.",
    "train": "Train an architecture and save a checkpoint.",
    "export": "Verify a network and publish it as the next version of a model.",
    "sign": "Sign published versions, for servers that require it.",
    "verify": "Check an artifact's files and golden cases on this machine.",
    "tune": "Find the settings with which this machine serves a model best.",
    "init": "Write a configuration with every setting, explained.",
    "serve": "Serve the models of a repository over gRPC.",
    "classify": "Classify images on a server.",
    "explain": "Say where in an image the evidence for a class lies.",
    "batch": "Classify many pictures into Parquet files, without a server.",
    "models": "List the models of a server.",
    "shadow": "Report how a candidate version's answers differ from the live version's.",
    "health": "Check whether a server is serving.",
    "token": "Create, list and revoke tokens: who may do what on a server.",
    "bench": "Put load on a server and report rates and latencies.",
}

# The extra that a sub-command needs, if it is not the one of the same name.
EXTRAS = {
    "doctor": "client",
    "init": "serve",
    "sign": "client",
    "verify": "serve",
    "classify": "client",
    "explain": "client",
    "models": "client",
    "shadow": "client",
    "health": "serve",
    "token": "serve",
    "tune": "serve",
}


class LazyGroup(click.Group):
    """A group that imports a sub-command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of the sub-commands, in the order of a model's life."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one sub-command."""
        if cmd_name not in SUMMARIES:
            nearest = difflib.get_close_matches(cmd_name, SUMMARIES, n=1)
            if not nearest:
                return None
            raise click.UsageError(
                f"there is no command {cmd_name!r}; did you mean {nearest[0]!r}?", ctx
            )
        try:
            command = importlib.import_module(f"convd.commands.{cmd_name}").command
        except ModuleNotFoundError as error:
            extra = EXTRAS.get(cmd_name, cmd_name)
            raise click.ClickException(
                f"'convd {cmd_name}' needs the package {error.name!r}: {install_command(extra)}"
            ) from error
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the summaries without importing the sub-commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="convd %(version)s")
def main() -> None:
    """Turn a trained PyTorch CNN into a monitored gRPC classification service."""
