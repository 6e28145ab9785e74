import numpy as np
import pytest

from convd.artifact.graph_contract import (
    IMAGE,
    OPTIONAL,
    OUTPUTS,
    REQUIRED,
    Outputs,
    join_parts,
    outputs_of,
)


def test_every_output_is_named_as_its_field() -> None:
    assert tuple(output.name for output in (*REQUIRED, *OPTIONAL)) == Outputs._fields
    assert tuple(OUTPUTS) == (*REQUIRED, *OPTIONAL)


def test_names_that_users_know_stay() -> None:
    """They stand in published files, in clients and in Triton's configurations."""
    assert IMAGE.name == "image"
    assert Outputs._fields[:2] == ("probabilities", "logits")


def test_outputs_are_found_by_name_whatever_their_place_in_the_graph() -> None:
    shapes = {"logits": (3,), "loss": (), "probabilities": (3,)}
    assert outputs_of(shapes) == {OUTPUTS.probabilities: (3,), OUTPUTS.logits: (3,)}


@pytest.mark.parametrize("lacking", ["probabilities", "logits"])
def test_a_graph_that_lacks_an_output_is_refused(lacking: str) -> None:
    shapes = {output.name: (3,) for output in REQUIRED if output.name != lacking}
    with pytest.raises(ValueError, match=f"lacks {lacking}"):
        outputs_of(shapes)


def test_parts_of_a_batch_join_without_names() -> None:
    parts = [Outputs(np.full((rows, 3), rows), np.full((rows, 3), -rows)) for rows in (1, 2)]
    joined = Outputs(*join_parts(parts))
    assert joined.features is None
    assert joined.probabilities[:, 0].tolist() == [1, 2, 2]
    assert joined.logits[:, 0].tolist() == [-1, -2, -2]
