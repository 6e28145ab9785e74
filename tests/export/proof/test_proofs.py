"""The parts of the proof, each against what it has to notice."""

import io
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from convd.artifact.evidence import Accuracy
from convd.artifact.manifest import NetworkOutput
from convd.artifact.preprocessing import (
    CenterCrop,
    Interpolation,
    Letterbox,
    PadToSquare,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    prepare_image,
)
from convd.export.errors import ParityError
from convd.export.graph.network_output import Activation
from convd.export.proof.agreement import check_agreement
from convd.export.proof.given import check_reading, check_recorded_accuracy
from convd.export.proof.pictures import BATCH_SIZES, make_pool
from convd.export.proof.recipe import reference_pixels
from convd.export.proof.reference import probabilities_of
from convd.export.report.golden_cases import MAX_CASES, choose_golden
from convd.export.sources.labelled_pictures import LabelledPictures
from tests.artifact.odd_pictures import cmyk_profile, gray_profile, random_picture, rgb_profile

sizes = st.integers(1, 60)
colors = st.tuples(*[st.integers(0, 255)] * 3)
recipes = st.builds(
    Preprocessing,
    resize=st.one_of(
        st.builds(ResizeShorterSide, size=st.integers(1, 40)),
        st.builds(ResizeTo, height=sizes, width=sizes),
        st.builds(Letterbox, height=sizes, width=sizes, color=colors),
        st.builds(PadToSquare, size=sizes, color=colors),
    ),
    center_crop=st.builds(CenterCrop, height=sizes, width=sizes),
    interpolation=st.sampled_from(get_args(Interpolation)),
    channel_order=st.sampled_from(["RGB", "BGR", "L"]),
    apply_exif_orientation=st.booleans(),
    apply_icc_profile=st.booleans(),
    background=st.one_of(st.none(), colors),
    grayscale=st.booleans(),
    invert=st.booleans(),
    crop_share=st.one_of(st.none(), st.floats(0.01, 1)),
)
PROFILES = {"RGB": rgb_profile(), "RGBA": rgb_profile(), "L": gray_profile()}
PROFILES |= {"P": rgb_profile(), "I;16": gray_profile(), "CMYK": cmyk_profile()}


@settings(max_examples=200)
@given(
    recipe=recipes,
    height=sizes,
    width=sizes,
    mode=st.sampled_from(["RGB", "L", "P", "RGBA", "LA", "I;16", "CMYK"]),
    orientation=st.integers(1, 8),
    profile=st.booleans(),
)
def test_the_recipe_that_was_written_twice_gives_the_same_pixels(
    recipe: Preprocessing, height: int, width: int, mode: str, orientation: int, *, profile: bool
) -> None:
    picture = random_picture(width, height, mode)
    if profile and mode in PROFILES:
        picture.info["icc_profile"] = PROFILES[mode]
    if profile and mode == "P":
        picture.info["transparency"] = bytes(range(0, 256, 8))
    picture.getexif()[0x0112] = orientation
    expected = prepare_image(picture, recipe)
    found = reference_pixels(picture, recipe)
    assert found.dtype == np.uint8
    assert (found == expected).all()


def test_the_recipe_reads_what_the_decoder_reads() -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(buffer, "JPEG", exif=exif)
    decoded = Image.open(io.BytesIO(buffer.getvalue()))
    recipe = Preprocessing(resize=ResizeTo(height=10, width=12), apply_exif_orientation=True)
    assert (reference_pixels(decoded, recipe) == prepare_image(decoded, recipe)).all()


@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_activations_that_were_written_twice_are_pytorchs(seed: int, temperature: float) -> None:
    torch.manual_seed(seed)
    logits = 8 * torch.randn(5, 4)
    tempered = (logits.double() / temperature).numpy()
    softmax = torch.from_numpy(tempered).softmax(dim=1).numpy()
    assert np.allclose(probabilities_of("logits", logits.numpy(), temperature), softmax)
    sigmoid = torch.from_numpy(tempered).sigmoid().numpy()
    found = probabilities_of("independent_logits", logits.numpy(), temperature)
    assert np.allclose(found, sigmoid)
    pair = probabilities_of("one_logit", logits[:, :1].numpy(), temperature)
    assert np.allclose(pair, np.stack([1 - sigmoid[:, 0], sigmoid[:, 0]], axis=1))
    log = F.log_softmax(logits.double(), dim=1).float().numpy()
    plain = logits.double().softmax(dim=1).numpy()
    assert np.allclose(probabilities_of("log_probabilities", log), plain, atol=1e-6)


def test_batches_are_of_every_size_and_mixture() -> None:
    real = [np.full((4, 4, 3), value, np.uint8) for value in range(50)]
    pool = make_pool(real)
    batches = list(pool.batches())
    assert len(batches) == pool.total == 4 * len(BATCH_SIZES)
    kinds = [
        {name for name, indices in pool.kinds.items() if set(indices) & set(batch.tolist())}
        for batch in batches
    ]
    assert {"random", "constant", "real"} in kinds
    assert all({name} in kinds for name in pool.kinds)
    assert {len(batch) for batch in batches} == set(BATCH_SIZES)
    assert pool.images[pool.kinds["constant"][0]].max() == 0
    assert pool.images[pool.kinds["constant"][-1]].min() == 255


def examples(truth: list[int], labels: int = 3) -> LabelledPictures:
    class Nothing:
        def __len__(self) -> int:
            return len(truth)

        def picture(self, index: int) -> Image.Image:
            raise AssertionError(index)

    return LabelledPictures(Nothing(), np.eye(labels, dtype=bool)[truth], "multiclass", "pictures")


def test_one_different_prediction_stops_the_export() -> None:
    wanted = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [0.2, 0.2, 0.6]])
    pictures = examples([0, 1, 2])
    assert check_agreement(wanted, wanted, pictures, 1e-5).share_right == 1
    tie = wanted.copy()
    tie[1] = [0.1, 0.449999, 0.450001]
    assert check_agreement(tie, wanted, pictures, 1e-5).differing_by_rounding == 1
    served = wanted.copy()
    served[2] = [0.5, 0.2, 0.3]
    with pytest.raises(
        ParityError, match=r"on 1 of 3 pictures \(pictures\); the first is number 2"
    ):
        check_agreement(served, wanted, pictures, 1e-5)


def test_one_different_label_of_several_stops_the_export() -> None:
    pictures = examples([0, 1, 2])
    several = LabelledPictures(pictures, pictures.truth, "multilabel", "pictures")
    wanted = np.array([[0.7, 0.7, 0.1], [0.1, 0.5, 0.1], [0.2, 0.2, 0.6]])
    served = wanted.copy()
    served[1, 1] = 0.499999
    assert check_agreement(served, wanted, several, 1e-5).differing_by_rounding == 1
    served[0, 1] = 0.4
    with pytest.raises(ParityError, match="number 0"):
        check_agreement(served, wanted, several, 1e-5)


def test_accuracy_that_training_measured_is_reached() -> None:
    measured = Accuracy(top1=0.97, examples=360, data="digits")
    check_recorded_accuracy(measured, replace_top1(measured, 0.9675))
    check_recorded_accuracy(None, measured)
    other = measured.model_copy(update={"data": "other pictures", "top1": 0.5})
    check_recorded_accuracy(measured, other)
    with pytest.raises(ParityError, match=r"97\.00% on digits, but the artifact reaches 90\.00%"):
        check_recorded_accuracy(measured, replace_top1(measured, 0.9))


def replace_top1(accuracy: Accuracy, top1: float) -> Accuracy:
    return accuracy.model_copy(update={"top1": top1})


ROWS = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)


@pytest.mark.parametrize(
    ("output", "values", "activation", "possible"),
    [
        ("probabilities", ROWS, "auto", True),
        ("logits", ROWS, "auto", False),
        ("logits", 9 * ROWS, "auto", True),
        ("logits", ROWS / 2, "auto", False),
        ("logits", ROWS / 2, "softmax", True),
        ("logits", ROWS, "softmax", False),
        ("independent_logits", 9 * ROWS, "sigmoid", True),
        ("independent_logits", 9 * ROWS, "softmax", False),
        ("independent_probabilities", ROWS / 2, "auto", True),
        ("independent_probabilities", 9 * ROWS, "auto", False),
        ("log_probabilities", np.log(ROWS), "auto", True),
        ("log_probabilities", ROWS, "auto", False),
        ("one_logit", ROWS[:, :1], "auto", False),
        ("one_logit", 9 * ROWS[:, :1], "auto", True),
        ("one_probability", ROWS[:, :1], "none", True),
    ],
)
def test_what_outputs_are_taken_for_is_judged_again(
    output: NetworkOutput, values: np.ndarray, activation: Activation, *, possible: bool
) -> None:
    if possible:
        check_reading(output, values, activation)
    else:
        with pytest.raises(ParityError):
            check_reading(output, values, activation)


def test_every_predicted_label_has_a_golden_case() -> None:
    generator = np.random.default_rng(0)
    predicted = np.eye(40, dtype=bool)[generator.integers(0, 40, 5000)]
    chosen = choose_golden(predicted, len(predicted))
    assert predicted[chosen].any(axis=0).all()
    assert len(chosen) == 40
    many = np.eye(1000, dtype=bool)[np.arange(3000) % 1000]
    assert len(choose_golden(many, len(many))) == MAX_CASES
    assert choose_golden(None, 4) == [0, 1, 2, 3]
    alone = np.zeros((20, 3), dtype=bool)
    assert len(choose_golden(alone, 20)) == 10
