"""Finds the weights in what a trainer saved: under which key, and with which prefix."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from convd.models.errors import CheckpointMismatchError, InvalidCheckpointError
from convd.models.registry import Weights

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What data-parallel training, compilation and wrapping modules put before every name."""

_AVERAGED = re.compile(r"(^|[_.])(ema|swa|averaged?)([_.]|$)")
_USUAL = ("state_dict", "model_state_dict", "model", "network", "net")
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|rng|callback|loop|amp|hyper", re.IGNORECASE)
_MOST_LISTED = 5


class LoadedWeights(NamedTuple):
    """Weights of a file.

    Attributes:
        tensors: Tensors on the CPU by name, without the usual prefixes.
        choice: Which set was taken and which others there are, in words; None where the file has
            one set.
    """

    tensors: Weights
    choice: str | None = None


def choose_weights(saved: object, path: str, key: str | None = None) -> LoadedWeights:
    """Choose one set of weights.

    Averaged weights (EMA, SWA) are taken where there are any: they are what is evaluated. Where
    several sets remain, the caller has to choose.

    Args:
        saved: What the file holds.
        path: The file, for the texts.
        key: The set, or the prefix of its names; None chooses.

    Raises:
        InvalidCheckpointError: There are no weights, none under the key, or several sets.
    """
    sets = dict(_weight_sets(saved))
    # Figures beside the weights are tensors, too.
    if len(sets) > 1 and "" in sets:
        del sets[""]
    if not sets:
        raise InvalidCheckpointError(f"{path} holds no state_dict: save network.state_dict()")
    if key is not None:
        return LoadedWeights(_under(key, sets, path), f"{key} is taken, of {_listed(sets)}")
    averaged = [name for name in sets if _AVERAGED.search(name.lower())]
    candidates = averaged or list(sets)
    usual = [name for name in candidates if name.rpartition(".")[2] in _USUAL]
    if len(candidates) > 1 and len(usual) == 1 and not averaged:
        candidates = usual
    if len(candidates) > 1:
        raise InvalidCheckpointError(
            f"{path} holds several sets of weights, {_listed(candidates)}: choose one with "
            "--weights-key NAME"
        )
    (name,) = candidates
    others = [other for other in sets if other != name]
    choice = f"{name} is taken; there also is {_listed(others)} (--weights-key)" if others else None
    return LoadedWeights(_without_prefixes(sets[name]), choice)


def strip_prefix(weights: Weights, expected: Iterable[str]) -> tuple[Weights, tuple[str, ...]]:
    """Find the prefix under which a network's weights are stored, such as `net.` or `backbone.`.

    Args:
        weights: Tensors by name.
        expected: The network's own names.

    Returns:
        Its weights under its own names, and the names of those that do not belong to it.

    Raises:
        CheckpointMismatchError: Several networks of this kind are in it.
    """
    names = set(expected)
    counts = Counter(prefix for name in weights for prefix in _prefixes(name, names))
    if not counts:
        return weights, ()
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    if most < len(names) / 2 or "" in best:
        return weights, ()
    averaged = [prefix for prefix in best if _AVERAGED.search(prefix.lower())]
    if len(best) > 1 and len(averaged) != 1:
        raise CheckpointMismatchError(
            f"the weights hold several such networks, under {_listed(best)}: choose one with "
            f"--weights-key {best[0].rstrip('.')}"
        )
    (prefix,) = averaged if len(best) > 1 else best
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    return own, tuple(sorted(name for name in weights if not name.startswith(prefix)))


def _weight_sets(saved: object, path: str = "") -> Iterator[tuple[str, Weights]]:
    """Every collection of tensors with names, by the path of keys to it."""
    if not isinstance(saved, Mapping):
        return
    named = {key: value for key, value in saved.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    # A name with a dot is a layer's; other tensors beside settings may be figures.
    if tensors and (len(tensors) == len(saved) or any("." in key for key in tensors)):
        yield path, tensors
    for key, value in named.items():
        if not _NOT_WEIGHTS.search(key):
            yield from _weight_sets(value, f"{path}.{key}" if path else key)


def _under(key: str, sets: dict[str, Weights], path: str) -> Weights:
    if key in sets:
        return _without_prefixes(sets[key])
    for weights in sets.values():
        own = {
            name.removeprefix(key + "."): tensor
            for name, tensor in weights.items()
            if name.startswith(key + ".")
        }
        if own:
            return own
    raise InvalidCheckpointError(
        f"{path} has no weights under {key!r}: --weights-key takes {_listed(sets)}"
    )


def _without_prefixes(weights: Weights) -> Weights:
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            shorter = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
            return _without_prefixes(shorter)
    return weights


def _prefixes(name: str, expected: set[str]) -> Iterator[str]:
    parts = name.split(".")
    for number in range(len(parts)):
        if ".".join(parts[number:]) in expected:
            yield "".join(f"{part}." for part in parts[:number])


def _listed(names: Iterable[str]) -> str:
    found = [name or "the top level" for name in names]
    more = ", ..." if len(found) > _MOST_LISTED else ""
    return " and ".join(found[:_MOST_LISTED]) + more
