"""Numbers of --mean and --std that belong to another convention."""

from collections.abc import Sequence

from convd.export.errors import SourceError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_LARGEST_STD = 2.0
"""Of pixels from 0 to 1, the standard deviation is at most 0.5."""


def refuse_other_conventions(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Refuse numbers that belong to pixels from 0 to 255, or to the other flag.

    Args:
        mean: Per channel, or one for all.
        std: Likewise.

    Raises:
        SourceError: They do; the text has the right flags.
    """
    if max(mean) > 1 or max(std) > _LARGEST_STD:
        raise SourceError(
            f"--mean {_list(mean)} --std {_list(std)} are for pixels from 0 to 255, but here they "
            "are for pixels from 0 to 1, and the network would see next to nothing: give --mean "
            f"{_list([each / 255 if max(mean) > 1 else each for each in mean])} --std "
            f"{_list([each / 255 if max(std) >= 1 else each for each in std])}"
        )
    if _near(mean, _IMAGENET_STD) and _near(std, _IMAGENET_MEAN):
        raise SourceError(
            f"--mean {_list(mean)} is ImageNet's std and --std {_list(std)} its mean: exchange them"
        )


def _near(values: tuple[float, ...], known: tuple[float, ...]) -> bool:
    return len(values) == len(known) and all(
        abs(one - other) < 0.005 for one, other in zip(values, known, strict=True)
    )


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
