"""Keeps the garbage collector away from the requests.

Requests leave nothing for it: what they make is freed by counting references. Yet the collector
counts what they allocate, comes every few hundred objects, and a few times in a second looks at
everything that the process holds, which stops all threads for several milliseconds.
"""

import gc

_YOUNG_OBJECTS = 5000
"""More than all requests in progress hold together, at usual concurrency."""


def collect_rarely() -> None:
    """Have the collector come when so many objects stay that something may really be garbage."""
    _, middle, old = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, middle, old)


def collect_and_freeze() -> None:
    """Collect what has come since the last time, and let no later collection look at what stays.

    To be called when models have come or gone. What stayed before is not looked at again, since
    that would stop the requests for some milliseconds: a servable that goes must not need it.
    """
    gc.collect()
    gc.freeze()
