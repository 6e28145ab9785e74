import logging
import subprocess
import sys
import textwrap
import threading

import pytest

from convd.service.rpc.call_threads import CallThreads
from tests.support import wait_until


def test_as_many_tasks_run_at_a_time_as_there_may_be_threads_and_the_others_wait() -> None:
    threads = CallThreads(3, "unary")
    begun: list[int] = []
    release = threading.Semaphore(0)

    def work(number: int) -> None:
        begun.append(number)
        release.acquire()

    for number in range(10):
        threads.submit(work, number)
    wait_until(lambda: len(begun) == 3)
    assert threads.waiting() == 7
    assert sorted(begun) == [0, 1, 2]
    release.release(10)
    wait_until(lambda: len(begun) == 10)
    threads.close()


def test_a_thread_that_is_idle_is_taken_before_one_is_made() -> None:
    threads = CallThreads(8, "idle-first")
    for _ in range(5):
        ended = threading.Event()
        threads.submit(ended.set)
        assert ended.wait(10)
        wait_until(lambda: len(threads._idle) == 1)
    assert [one.name for one in threading.enumerate() if "idle-first" in one.name] == [
        "idle-first_0"
    ]
    threads.close()
    wait_until(lambda: not any("idle-first" in one.name for one in threading.enumerate()))


def test_the_end_of_every_task_is_told_once_whenever_somebody_asks() -> None:
    threads = CallThreads(4, "unary")
    told: list[object] = []
    tasks = [threads.submit(int) for _ in range(5000)]
    # Some are over by now, some are about to be, and some have not begun.
    for task in tasks:
        task.add_done_callback(told.append)
    wait_until(lambda: len(told) >= len(tasks))
    threads.close()
    assert len(told) == len(set(map(id, told))) == len(tasks)


def test_a_task_that_fails_is_logged_and_ends_and_its_thread_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads = CallThreads(1, "unary")
    told: list[object] = []
    with caplog.at_level(logging.ERROR):
        threads.submit(sys.exit, "a reason").add_done_callback(told.append)
        ended = threading.Event()
        threads.submit(ended.set)
        assert ended.wait(10)
    assert len(told) == 1
    assert "SystemExit: a reason" in caplog.text
    threads.close()


@pytest.mark.parametrize("ending", ["", "threads.close()"])
def test_what_has_begun_ends_before_the_process_does(ending: str) -> None:
    program = f"""
        import os, time
        from convd.service.rpc.call_threads import CallThreads

        threads = CallThreads(3, "unary")
        for _ in range(2):
            threads.submit(lambda: (time.sleep(0.3), os.write(1, b"ended\\n")))
        {ending}
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.stdout.split() == ["ended", "ended"]
