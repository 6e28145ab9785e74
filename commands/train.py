"""`convd train`: from a data set to a checkpoint."""

import json
import sys
from pathlib import Path

import click
import yaml
from pydantic import ValidationError
from rich.console import Console

from convd.installation import install_command


def _option_of_architecture(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, object]:
    options = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE")
        options[name] = yaml.safe_load(text)
    return options


def _list(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else tuple(each.strip() for each in value.split(","))


@click.command(
    name="train",
    short_help="Train an architecture and save a checkpoint.",
)
@click.argument("architecture", metavar="ARCH")
@click.option(
    "--data",
    required=True,
    metavar="SPEC",
    help="What to train on: digits, drawn: (dog, cat, boat, bird), folder:PATH, cifar10:PATH or "
    "mnist:PATH.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the checkpoint.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing checkpoint.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option(
    "--classes",
    metavar="A,B,...",
    callback=_list,
    help="Keep only these classes, in this order.",
)
@click.option("--input-size", type=int, help="Height and width of the network's input, in pixels.")
@click.option("--channels", type=click.IntRange(1, 3), help="Train on grayscale or colour.")
@click.option("--epochs", type=int, default=30, show_default=True)
@click.option(
    "--batch-size",
    type=int,
    help="Pictures per step; by default 64, and down to 16 with few pictures.",
)
@click.option(
    "--passes-per-epoch",
    type=int,
    help="Times that an epoch sees each picture; by default 1, and more with few pictures.",
)
@click.option(
    "--learning-rate",
    type=float,
    help="Peak rate; by default the architecture's, in proportion to the batch size, and "
    "half of that with --init.",
)
@click.option("--momentum", type=float, default=0.9, show_default=True)
@click.option("--weight-decay", type=float, default=0.0005, show_default=True)
@click.option(
    "--warmup-epochs",
    type=float,
    default=1.0,
    show_default=True,
    help="Epochs during which the learning rate rises.",
)
@click.option(
    "--loss",
    type=click.Choice(["cross-entropy", "squared-error"]),
    default="cross-entropy",
    show_default=True,
    help="squared-error is the textbook's total error, half the sum of (target - output)^2.",
)
@click.option(
    "--label-smoothing",
    type=float,
    help="Spread this share of the target over all classes; by default 0.1 with cross-entropy.",
)
@click.option(
    "--augment/--no-augment",
    default=True,
    show_default=True,
    help="Change training pictures at random, in ways that suit the data set.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--patience",
    type=int,
    help="Stop after this many epochs without a gain on a validation tenth of the pictures.",
)
@click.option(
    "--init",
    metavar="WEIGHTS",
    help="Start from these weights, with a new last layer: a file, a checkpoint, "
    "torchvision:NAME, timm:NAME or hf:NAME.",
)
@click.option("--freeze-backbone", is_flag=True, help="Train only the last layer.")
@click.option("--strict-data", is_flag=True, help="Stop at a broken file instead of skipping it.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option(
    "--mixed-precision/--no-mixed-precision",
    default=None,
    help="Compute convolutions in 16 bits; by default on a GPU only.",
)
@click.option("--pooling", help="Pooling of lenet5: max, average or sum.")
@click.option(
    "--option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_option_of_architecture,
    help="An option of the architecture, such as dropout=0.3; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(
    context: click.Context,
    /,
    output: Path,
    *,
    as_json: bool,
    overwrite: bool,
    resume: bool,
    pooling: str | None,
    options: dict[str, object],
    **given: object,
) -> None:
    """Train ARCH on a data set and save a checkpoint.

    Accuracy is measured on held-out pictures. Ctrl-C leaves a usable checkpoint, and --resume
    continues from there.

    \b
    Example:
      convd train lenet --data digits --output runs/digits
    """
    # torch takes seconds to import, and help and usage errors do not need it.
    try:
        from convd.models.errors import ModelsError
        from convd.models.settings import TrainingSettings
        from convd.models.training import train
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"'convd train' needs the package {error.name!r}: {install_command('train')}"
        ) from error

    if pooling is not None:
        options["pooling"] = pooling
    try:
        settings = TrainingSettings.model_validate({**given, "options": options})
        console = Console(stderr=True)
        result = train(settings, output, console=console, overwrite=overwrite, resume=resume)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = "--" + str(problem["loc"][0]).replace("_", "-") + ": " if problem["loc"] else ""
        raise click.UsageError(option + problem["msg"], context) from error
    except ModelsError as error:
        raise click.ClickException(str(error)) from error
    accuracy = result.description.accuracy
    interrupted_by = result.interrupted_by
    if as_json:
        measured = None if accuracy is None else accuracy.model_dump()
        done = {"checkpoint": str(output), "accuracy": measured, "interrupted_by": interrupted_by}
        click.echo(json.dumps(done))
        sys.exit(0 if interrupted_by is None else 128 + interrupted_by)
    if accuracy is not None:
        click.echo(
            f"held-out accuracy {accuracy.top1:.2%} of {accuracy.examples} pictures "
            f"({accuracy.data})"
        )
    if interrupted_by is None:
        click.echo(f"checkpoint {output}")
    else:
        best = result.description.training.get("best_epoch")
        which = f"the best weights so far, of epoch {best}" if best else "the weights so far"
        click.echo(f"checkpoint {output}: {which}")
        click.echo("interrupted: run the same command with --resume to continue")
        sys.exit(128 + interrupted_by)
    click.echo(f"next: convd export {output} --name {output.name} --repository repository")
