"""What can be asked of an export besides the network itself."""

from dataclasses import dataclass
from typing import Literal

from convd.artifact.manifest import Task
from convd.artifact.signature import Signer
from convd.export.errors import SourceError
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.source import TrainedNetwork
from convd.export.sources.labelled_pictures import LabelledPictures

ExportPrecision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class ExportOptions:
    """How a network is published.

    Attributes:
        precision: Precision of the published weights.
        quantization_data: Pictures on which the ranges of activations are measured, for int8.
        max_accuracy_drop: Largest drop of top-1 accuracy that a smaller precision may cost, 0 to 1.
        calibration_data: Pictures that a temperature is fitted on; None leaves it at 1.
        features: Whether the graph also gives what the last layer takes.
        signer: Signs the version; None leaves it unsigned.
    """

    precision: ExportPrecision = "float32"
    quantization_data: LabelledPictures | None = None
    max_accuracy_drop: float = 0.01
    calibration_data: LabelledPictures | None = None
    features: bool = False
    signer: Signer | None = None

    def check(self, source: TrainedNetwork) -> None:
        """Refuse what does not go together.

        Raises:
            SourceError: Data are missing for what is asked, or given for nothing.
        """
        if self.precision == "int8" and self.quantization_data is None:
            raise SourceError(
                "--precision int8 has to see pictures: give --quantization-data SPEC, such as what "
                "the network was trained on"
            )
        if self.precision != "int8" and self.quantization_data is not None:
            raise SourceError("--quantization-data is for --precision int8: leave it out")
        if self.precision != "float32" and isinstance(source.examples, SamplePictures):
            raise SourceError(
                f"--precision {self.precision} costs accuracy, which has to be measured: give "
                "--data SPEC"
            )

    def check_task(self, source: TrainedNetwork, task: Task) -> None:
        """Refuse data whose labels are of another kind than the network's.

        Raises:
            SourceError: They are.
        """
        for flag, data in (("--data", source.examples), ("--calibrate", self.calibration_data)):
            if isinstance(data, LabelledPictures) and data.task != task:
                needed = (
                    "multilabel:FILE.csv, a table with a column of 0 and 1 for each label"
                    if task == "multilabel"
                    else "data with one class for each picture, such as folder:PATH"
                )
                raise SourceError(
                    f"the network is {task}, and {flag} gives {data.task} pictures: give {flag} "
                    f"{needed}"
                )
