"""`convd batch --ray`: the parts of an input, classified on the nodes of a Ray cluster.

Ray Data gives parts to processes of one core each. A process loads the model once, and sends the
rows of a part back to the command, which writes them. So the output has a single writer, and needs
no storage that the nodes share.
"""

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError

from convd.artifact.errors import ArtifactError
from convd.artifact.manifest import Manifest
from convd.client.errors import ClientError
from convd.commands.batch_inputs import InputError, Part, read_files
from convd.commands.batch_rows import SCHEMA, BatchClassifier
from convd.local_model import find_version

_Row = dict[str, Any]


def rows_on_ray(
    address: str, parts: dict[Path, Part], place: str, top_k: int, provider: str
) -> Iterator[tuple[Path, pa.Table | None]]:
    """Classify parts on a cluster.

    Args:
        address: Address of the cluster, as `ray.init` takes it.
        parts: The parts by the file that each becomes.
        place: Folder of the version, which every node has.
        top_k: How many classes a row has; 0 for all.
        provider: Execution provider.

    Yields:
        The rows of each part as it is finished, and None behind them.

    Raises:
        InputError: A part or the version cannot be read on a node.
        ConnectionError: The cluster cannot be reached, or has failed.
    """
    if not parts:
        return
    targets = list(parts)
    rows = [{"number": n, "part": pickle.dumps(parts[one])} for n, one in enumerate(targets)]
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False
        cores = int(ray.cluster_resources().get("CPU", 1))
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(place, find_version(place).manifest, top_k, provider),
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=max(1, min(cores, len(rows)))),
        )
        for row in answered.iter_rows():
            if row["refusal"]:
                raise InputError(row["refusal"])
            target = targets[row["number"]]
            yield target, pa.ipc.open_stream(row["rows"]).read_all()
            yield target, None
    except (RayError, ConnectionError) as error:
        raise ConnectionError(f"the Ray cluster at {address} has failed: {error}") from error
    finally:
        ray.shutdown()


class _Worker:
    """A process of the cluster, which has one core.

    Args:
        place: Folder of the version.
        manifest: The version's manifest where the command runs.
        top_k: How many classes a row has; 0 for all.
        provider: Execution provider.
    """

    def __init__(self, place: str, manifest: Manifest, top_k: int, provider: str) -> None:
        self._place = place
        self._manifest = manifest
        self._top_k = top_k
        self._provider = provider
        self._classify: BatchClassifier | None = None

    def __call__(self, row: _Row) -> _Row:
        """Classify a part: its rows as an Arrow stream, or why there are none."""
        answer: _Row = {"number": row["number"], "rows": b"", "refusal": ""}
        try:
            if self._classify is None:
                self._classify = self._load()
            # The command has written it: a cluster runs what its users send.
            part: Part = pickle.loads(row["part"])  # noqa: S301
            tables = [
                self._classify([picture.path for picture in batch], read_files(batch))
                for batch in part.batches()
            ]
        except (ArtifactError, ClientError, InputError, OSError) as error:
            return answer | {"refusal": f"a node of the cluster: {error}"}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA) as stream:
            for table in tables:
                stream.write_table(table)
        return answer | {"rows": sink.getvalue().to_pybytes()}

    def _load(self) -> BatchClassifier:
        classify = BatchClassifier(self._place, self._top_k, self._provider, intra_op_threads=1)
        if classify.model.manifest != self._manifest:
            raise InputError(f"{self._place} has another version than where the command runs")
        return classify
