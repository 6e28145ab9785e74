"""The garbage collector comes rarely, and does not look at what stays."""

import subprocess
import sys
import textwrap


def test_what_lives_when_a_model_came_is_not_looked_at_again() -> None:
    # In a process of its own, since it changes the whole process.
    program = """
        import gc
        from convd.service.garbage import collect_and_freeze, collect_rarely

        collect_rarely()
        assert gc.get_threshold()[0] > 700
        for _ in range(2):
            garbage = []
            garbage.append(garbage)
            del garbage
            collect_and_freeze()
            assert gc.get_freeze_count() > 1000
            assert len(gc.get_objects()) < 100
            assert gc.collect() == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
