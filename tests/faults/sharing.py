"""Work shared out among threads, each with a place of its own to do it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TypeVar

_Place = TypeVar("_Place")
_Job = TypeVar("_Job")


def share_out(
    jobs: Iterable[_Job],
    count: int,
    make_place: Callable[[], AbstractContextManager[_Place]],
    do: Callable[[_Place, _Job], None],
) -> None:
    """Let so many threads take jobs until none is left.

    :param make_place: what each thread opens before its first job, and closes after its last.
    :raises BaseException: the first error of any of them; the others then stop after their present job.
    """
    waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    errors: list[BaseException] = []
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        try:
            with make_place() as place:
                while not errors:
                    do(place, waiting.get_nowait())
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
