"""The golden self-test: does this machine produce the answers that the artifact promises?"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from convd.artifact.bundle import Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.errors import ArtifactError, InvalidArtifactError, InvalidImageError
from convd.artifact.golden import (
    FEATURE_TOLERANCES,
    GoldenCases,
    count_answers,
    feature_difference,
    golden_difference,
)
from convd.artifact.graph_contract import (
    ACTIVATION_MAPS,
    FEATURES,
    OPTIONAL,
    Extras,
    GraphTensor,
    OutputArrays,
    RowShape,
)
from convd.artifact.precision import Precision
from convd.artifact.preprocessing import prepare_image
from convd.runtime.session import Session


class SelfTestError(ArtifactError):
    """The golden cases produced other answers than the artifact promises."""


def run_self_test(artifact: Artifact, session: Session) -> float:
    """Send the golden images through the whole path and compare the answers.

    Args:
        artifact: The artifact.
        session: Its network, loaded on the execution provider in question.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        SelfTestError: The difference exceeds the artifact's tolerance for the provider, or all
            pictures get one answer although they must not.
        ArtifactError: A golden file is missing or altered.
    """
    golden = artifact.golden_cases()
    images = np.stack([_prepare(artifact, PurePosixPath(case.image)) for case in golden.cases])
    extras = _extras(artifact, session)
    with session.turn():
        outputs = session.run(images, extras)
    probabilities = outputs.probabilities
    expected_shape = (len(images), len(artifact.manifest.labels))
    if probabilities.shape != expected_shape:
        raise SelfTestError(
            f"the network answers {list(probabilities.shape)}, not {list(expected_shape)}: this "
            "does not fit the manifest's labels; export the model again"
        )
    difference = golden_difference(golden, probabilities)
    provider = session.provider
    precision = provider.computes_in(artifact.manifest.precision)
    tolerance = artifact.manifest.golden_tolerance(provider.name, precision)
    if tolerance is None:
        raise SelfTestError(f"the artifact promises nothing for {provider.name} in {precision}")
    if not difference <= tolerance:
        raise SelfTestError(
            f"golden probabilities differ by {difference:.2g}, more than the tolerance of "
            f"{tolerance:.2g} for {provider.name} in {precision}: this machine does not give the "
            "artifact's answers"
        )
    if extras:
        _check_features(golden, outputs, precision)
    task = artifact.manifest.task
    expected = np.array([case.probabilities for case in golden.cases])
    # A network without data may have one answer to all its golden pictures; no other one may.
    if count_answers(expected, task) > 1 and count_answers(probabilities, task) == 1:
        raise SelfTestError(
            "all golden pictures get the same answer, which they must not: the network does not "
            "look at its pictures here"
        )
    return difference


def _prepare(artifact: Artifact, file: PurePosixPath) -> NDArray[np.uint8]:
    data = artifact.read(file)
    try:
        return prepare_image(decode_image(data), artifact.manifest.preprocessing)
    except InvalidImageError as error:
        raise InvalidArtifactError(
            f"{file} is not a picture that can be decoded: export the model again",
            detail=str(error),
        ) from error


def _extras(artifact: Artifact, session: Session) -> Extras:
    """The optional outputs that the manifest promises.

    Raises:
        SelfTestError: The graph has others, or of other shapes.
    """
    described = artifact.manifest.features
    promised: dict[GraphTensor, RowShape] = {}
    if described is not None:
        promised[FEATURES] = (described.length,)
        if described.map_shape is not None:
            promised[ACTIVATION_MAPS] = described.map_shape
    found = {output: session.outputs[output] for output in OPTIONAL if output in session.outputs}
    if found != promised:
        raise SelfTestError(
            f"the graph's optional outputs are {_shown(found)}, not {_shown(promised)} as the "
            "manifest says: export the model again"
        )
    return frozenset(output.name for output in promised)


def _shown(outputs: Mapping[GraphTensor, RowShape]) -> str:
    return ", ".join(f"{one.name} {list(shape)}" for one, shape in outputs.items()) or "none"


def _check_features(golden: GoldenCases, outputs: OutputArrays, precision: Precision) -> None:
    difference = feature_difference(golden, outputs)
    tolerance = FEATURE_TOLERANCES[precision]
    if not difference <= tolerance:
        raise SelfTestError(
            f"golden features differ by {difference:.2g} of the largest one, more than "
            f"{tolerance:.2g} in {precision}: this machine does not give the artifact's answers"
        )
