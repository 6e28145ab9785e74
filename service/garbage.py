"""Keeps the garbage collector from pausing requests.

Requests create no reference cycles, so reference counting frees what they allocate. By default the
collector still runs every few hundred allocations, and several times a second it scans every object
of the process, which stops all threads for several milliseconds.
"""

import gc

_YOUNG_OBJECTS = 5000
"""More objects than all requests in progress hold at usual concurrency."""


def collect_rarely() -> None:
    """Run the collector only when more objects survive than requests in progress account for."""
    _, middle, old = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, middle, old)


def collect_and_freeze() -> None:
    """Collect new garbage, then exclude all surviving objects from later collections.

    Call it after models were loaded or unloaded. Objects that survived earlier calls are not
    scanned again, since that would pause requests for milliseconds; an unloaded servable must
    therefore be free of reference cycles.
    """
    gc.collect()
    gc.freeze()
