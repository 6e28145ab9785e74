"""The golden self-test: does this machine give the answers that the artifact promises?"""

from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from artifact.bundle import Artifact
from artifact.decoding import decode_image
from artifact.errors import ArtifactError
from artifact.golden import golden_difference
from artifact.manifest import Precision
from artifact.preprocessing import prepare_image

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


class SelfTestError(ArtifactError):
    """The golden cases gave other answers than the artifact promises."""


def run_self_test(artifact: Artifact, run: Run, precision: Precision) -> float:
    """Send the golden images through the whole path and compare the answers.

    Args:
        artifact: The artifact.
        run: The session, from uint8 `[batch, height, width, channels]` to probabilities and logits.
        precision: The precision in which the session computes.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        SelfTestError: The difference is over the artifact's tolerance for the precision.
        ArtifactError: A golden file is missing or altered.
    """
    golden = artifact.golden_cases()
    recipe = artifact.manifest.preprocessing
    files = [artifact.read(PurePosixPath(case.image)) for case in golden.cases]
    images = np.stack([prepare_image(decode_image(file), recipe) for file in files])
    probabilities, _ = run(images)
    expected_shape = (len(files), len(artifact.manifest.labels))
    if probabilities.shape != expected_shape:
        raise SelfTestError(
            f"the network answers {list(probabilities.shape)}, not {list(expected_shape)}: it does "
            "not fit the manifest's labels"
        )
    difference = golden_difference(golden, probabilities)
    tolerances = artifact.manifest.golden_tolerances
    tolerance = tolerances.get(precision)
    if tolerance is None:
        raise SelfTestError(
            f"the artifact promises nothing for {precision}, only for {', '.join(tolerances)}"
        )
    if not difference <= tolerance:
        raise SelfTestError(
            f"golden probabilities differ by {difference:.2g}, more than the tolerance of "
            f"{tolerance:.2g} for {precision}: this machine does not give the artifact's answers"
        )
    return difference
