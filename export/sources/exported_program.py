"""Networks as `torch.export.save` writes them: `.pt2` files."""

import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import SourceError
from convd.export.sources.input_recipe import recipe_of_input


class ExportedNetwork(nn.Module):
    """A traced network, which has no modes to switch between.

    Args:
        traced: What `ExportedProgram.module` gives.
    """

    def __init__(self, traced: nn.Module) -> None:
        super().__init__()
        self.traced = traced
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> "ExportedNetwork":  # noqa: ARG002
        """Do nothing: the mode was fixed when the network was traced."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[batch, classes]` of pictures `[batch, channels, height, width]`."""
        logits: Tensor = self.traced(x)
        return logits


class ExportedInput(NamedTuple):
    """A traced network and the pictures that it was traced for."""

    network: ExportedNetwork
    preprocessing: Preprocessing | None


def read_exported_program(path: Path, *, trust_code: bool) -> ExportedInput:
    """Read a `.pt2` file.

    Such a file holds a program: reading it evaluates expressions in it, which can run any code.

    Args:
        path: The file.
        trust_code: Whether that may happen.

    Returns:
        The network, and the recipe that squeezes pictures to the size that it was traced with;
        None for the recipe where the size is dynamic.

    Raises:
        SourceError: The file is missing, damaged or not trusted, or its batch size or input is not
            usable.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    if not trust_code:
        raise SourceError(
            f"{path} is a program, and reading it can run any code that its author put in: give "
            "--trust-code where you made it or trust who did; weights alone (.safetensors, or "
            "network.state_dict()) run nothing"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            network = ExportedNetwork(program.module())
    # A damaged archive makes PyTorch raise nearly anything.
    except Exception as error:
        raise SourceError(
            f"{path} cannot be read as a program of torch.export: {type(error).__name__}: {error}"
        ) from error
    names = program.graph_signature.user_inputs
    shapes = {
        node.name: node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta.get("val"), Tensor)
    }
    if len(names) != 1 or len(shapes.get(str(names[0]), ())) != 4:
        raise SourceError(
            f"{path} takes {len(names)} inputs: it must take one, float32 [batch, channels, "
            "height, width]"
        )
    batch, channels, height, width = shapes[str(names[0])]
    if isinstance(batch, int):
        raise SourceError(
            f"{path} was exported for batches of {batch} only: export it again with "
            "torch.export.export(network, (example,), dynamic_shapes=({0: "
            "torch.export.Dim('batch')},)) and an example of two pictures"
        )
    if not (isinstance(height, int) and isinstance(width, int)):
        return ExportedInput(network, None)
    return ExportedInput(network, recipe_of_input(height, width, channels))
