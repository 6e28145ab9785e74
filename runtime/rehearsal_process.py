"""The process of rehearsals: loads networks and runs each once, with a bound on its own memory."""

import json
import os
import queue
import re
import resource
import sys
import threading
from pathlib import Path

import numpy as np

from convd.artifact.bundle import MAX_MODEL_BYTES, MODEL_FILE, sha256
from convd.artifact.contained import ContainedFolder
from convd.artifact.graph_contract import IMAGE
from convd.runtime.cpu import CPU
from convd.runtime.rehearsal import ALTERED, MEMORY, Order
from convd.runtime.session import open_session

_OUT_OF_MEMORY = re.compile("alloc|memory", re.IGNORECASE)
_FIRST_TO_GO = "1000"


def main() -> None:
    """Answer each line on standard input by one on standard output, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    _discard_output()
    # Where memory ends, the system must not choose the server.
    Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    while True:
        order = orders.get()
        answers.write(json.dumps(_rehearse(order)) + "\n")
        answers.flush()


def _read(orders: "queue.SimpleQueue[Order]") -> None:
    for line in sys.stdin:
        orders.put(Order(*json.loads(line)))
    # The server has ended, or wants nothing more; a network may be in the middle of a run.
    os._exit(0)


def _discard_output() -> None:
    """Let what ONNX Runtime prints go nowhere; the server says what is wrong with a network."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)


def _rehearse(order: Order) -> str:
    """Load a network and run it once; what it lacked, or nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        limit = _data_bytes() + order.memory_bytes
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        folder = ContainedFolder(Path(order.path), Path(order.bound), Path(order.top))
        model = folder.read(MODEL_FILE, MAX_MODEL_BYTES)
        if sha256(model) != order.checksum:
            return ALTERED
        session = open_session(model, CPU, intra_op_threads=1)
        session.run(None, {IMAGE.name: np.zeros((1, *order.image_shape), np.uint8)})
    # ONNX Runtime raises one class per status code; whatever is not about memory will be met again
    # by the server, which says it better.
    except Exception as error:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            return MEMORY
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    return ""


def _data_bytes() -> int:
    """What counts against the limit now."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()
