import pytest

from convd.models import create_model, list_models
from convd.models.errors import ArchitectureOptionError, UnknownArchitectureError
from convd.models.registry import find_architecture, register_model
from convd.models.stages import StagedNetwork


def test_a_name_is_registered_once() -> None:
    for taken in ("lenet5", "lenet"):
        register = register_model(taken, input_size=8, minimum_input_size=8, learning_rate=0.1)
        with pytest.raises(ValueError, match=f"'{taken}' is already registered"):
            register(StagedNetwork)
    assert find_architecture("lenet5").build is not StagedNetwork


def test_an_alias_and_any_case_are_accepted() -> None:
    assert find_architecture("LeNet") is find_architecture("lenet5")
    assert "lenet" not in list_models()


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownArchitectureError, match=r"'lenet4': did you mean .*lenet5"):
        create_model("lenet4")
    with pytest.raises(UnknownArchitectureError, match=r"choose one of .*lenet5"):
        create_model("xyzzy")


def test_an_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(ArchitectureOptionError, match="no option 'poling': it takes pooling"):
        create_model("lenet5", poling="max")


@pytest.mark.parametrize("wrong", [{"num_classes": 0}, {"in_channels": 0}])
def test_counts_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ArchitectureOptionError, match="at least 1"):
        create_model("lenet5", **wrong)


def test_an_input_size_out_of_bounds_is_refused() -> None:
    lenet = find_architecture("lenet5")
    lenet.check_input_size(32)
    with pytest.raises(ArchitectureOptionError, match="at least 32 x 32"):
        lenet.check_input_size(28)
    with pytest.raises(ArchitectureOptionError, match="at most 32 x 32"):
        lenet.check_input_size(64)
