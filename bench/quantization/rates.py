"""Rates and answers of networks: `python -m bench.quantization.rates FOLDER THREADS`.

The folder has `images.npy` and ONNX files; `rates.json` and an `.npy` of probabilities for each are
added. THREADS is 0 to choose them as serving does. A process of its own can load another build of
ONNX Runtime.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from convd.runtime.cpu import CPU
from convd.runtime.session import Session

BATCH_SIZES = (1, 8, 32)
_ROUNDS = 12
_ROWS_PER_MEASUREMENT = 32


def main(folder: Path, threads: int) -> None:
    """Measure all networks in turns, so that they meet the same disturbances."""
    images = np.load(folder / "images.npy")
    sessions = {
        path.stem: Session(path.read_bytes(), CPU, intra_op_threads=threads)
        for path in sorted(folder.glob("*.onnx"))
    }
    for name, session in sessions.items():
        answers = [session.run(part).probabilities for part in np.array_split(images, 12)]
        np.save(folder / f"{name}.npy", np.concatenate(answers))
    rates = {name: [0.0] * len(BATCH_SIZES) for name in sessions}
    for index, rows in enumerate(BATCH_SIZES):
        batch = images[:rows]
        for _ in range(_ROUNDS):
            for name, session in sessions.items():
                repeats = _ROWS_PER_MEASUREMENT // rows
                session.run(batch)
                started = time.perf_counter()
                for _ in range(repeats):
                    session.run(batch)
                rate = repeats * rows / (time.perf_counter() - started)
                rates[name][index] = max(rates[name][index], rate)
    chosen = {name: session.threads for name, session in sessions.items()}
    (folder / "rates.json").write_text(json.dumps({"rates": rates, "threads": chosen}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
