"""Run jobs in threads, each with a context of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TypeVar

_Context = TypeVar("_Context")
_Job = TypeVar("_Job")


def run_in_threads(
    jobs: Iterable[_Job],
    count: int,
    make_context: Callable[[], AbstractContextManager[_Context]],
    run: Callable[[_Context, _Job], None],
) -> None:
    """Run all jobs in this many threads.

    :param make_context: each thread enters one before its first job, and exits it after its last.
    :raises BaseException: the first error of a job; the threads then stop after their current jobs.
    """
    waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    errors: list[BaseException] = []
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        try:
            with make_context() as context:
                while not errors:
                    run(context, waiting.get_nowait())
        except queue.Empty:
            return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
