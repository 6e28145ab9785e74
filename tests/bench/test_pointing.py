"""A map hits an object if its centre of mass lies in the object's box."""

import numpy as np

from bench.pointing import is_hit
from convd.models.data.drawn import Box

BOX = Box(left=10, top=20, right=30, bottom=40)


def test_mass_in_the_box_hits_and_elsewhere_misses() -> None:
    heat = np.zeros((64, 64))
    heat[25:35, 15:25] = 1
    assert is_hit(heat.tolist(), BOX)
    assert not is_hit(np.roll(heat, 30, axis=1).tolist(), BOX)


def test_what_speaks_against_a_class_and_what_is_not_seen_do_not_count() -> None:
    heat = np.zeros((64, 64))
    heat[25:35, 15:25] = 1
    heat[:10] = -5
    heat[50:] = np.nan
    assert is_hit(heat.tolist(), BOX)


def test_an_empty_map_misses() -> None:
    assert not is_hit(np.zeros((64, 64)).tolist(), BOX)
