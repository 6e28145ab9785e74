"""`convd train`: from a data set to a checkpoint."""

from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console

_OPTIONS_OF_ARCHITECTURES = ("pooling", "activation")


@click.command(
    name="train",
    short_help="Train an architecture and save a checkpoint.",
    epilog="Example: convd train lenet --data digits --output runs/digits",
)
@click.argument("architecture", metavar="ARCH")
@click.option(
    "--data",
    required=True,
    metavar="SPEC",
    help="What to train on: digits.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the checkpoint.",
)
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint that is there already.")
@click.option(
    "--classes",
    metavar="A,B,...",
    callback=lambda _context, _option, value: tuple(value.split(",")) if value else None,
    help="Keep these classes only, in this order.",
)
@click.option("--input-size", type=int, help="Height and width of the network's input, in pixels.")
@click.option("--channels", type=click.IntRange(1, 3), help="Train on grayscale or colour.")
@click.option("--epochs", type=int, default=30, show_default=True)
@click.option("--batch-size", type=int, default=64, show_default=True)
@click.option("--learning-rate", type=float, help="Peak rate; by default the architecture's.")
@click.option("--momentum", type=float, default=0.9, show_default=True)
@click.option("--weight-decay", type=float, default=0.0005, show_default=True)
@click.option(
    "--warmup-epochs",
    type=float,
    default=1.0,
    show_default=True,
    help="How long the learning rate rises.",
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
    help="Change training pictures at random, as suits the data set.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--pooling", help="LeNet-5: max, average or sum.")
@click.option("--activation", help="LeNet-5: relu or tanh.")
@click.pass_context
def command(context: click.Context, /, output: Path, *, overwrite: bool, **given: object) -> None:
    """Train ARCH on a data set and save a checkpoint.

    Accuracy is measured on pictures that training never sees.
    """
    # torch takes seconds to import; help and usage errors need none of it.
    try:
        from models.errors import ModelsError
        from models.settings import TrainingSettings
        from models.training import train
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"'convd train' needs the package {error.name!r}: pip install 'convd[train]'"
        ) from error

    options = {
        name: given.pop(name) for name in _OPTIONS_OF_ARCHITECTURES if given[name] is not None
    }
    for name in _OPTIONS_OF_ARCHITECTURES:
        given.pop(name, None)
    try:
        settings = TrainingSettings.model_validate({**given, "options": options})
        result = train(settings, output, console=Console(stderr=True), overwrite=overwrite)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = "--" + str(problem["loc"][0]).replace("_", "-")
        raise click.UsageError(f"{option}: {problem['msg']}", context) from error
    except ModelsError as error:
        raise click.ClickException(str(error)) from error
    accuracy = result.accuracy
    click.echo(
        f"held-out accuracy {accuracy.top1:.2%} of {accuracy.examples} pictures ({accuracy.data})"
    )
    click.echo(f"checkpoint {output}")
    click.echo(f"next: convd export {output} --name {output.name} --repository repository")
