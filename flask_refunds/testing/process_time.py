"""Move this process's time: what its modules read from ``time`` and ``datetime``.

Tests need this for code that takes no clock: an app's views, PyJWT, signed cookies. In every loaded module
that isn't part of Python, the names ``datetime``, ``date`` and ``time`` are replaced by versions that add an
offset. Objects made with them have the ordinary types. Monotonic clocks don't move, so timeouts don't either.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..storage.server_clock import ServerClock

_KEEP_REAL_TIME = frozenset(
    {*sys.stdlib_module_names, "_pytest", "pytest", "pluggy", "xdist", "execnet", "coverage", "hypothesis"}
)


class ProcessTime:
    """The time of this process. Use the one instance, :data:`process_time`."""

    def __init__(self) -> None:
        self.offset = 0.0
        """The seconds that were added to the real time."""
        self._undo: list[Callable[[], None]] = []
        self._versions = _moved_versions(lambda: time.time() + self.offset)

    def move(self, seconds: float) -> None:
        """Add seconds to the time, also in modules that were imported since the last move."""
        self.offset += seconds
        if not self._undo:
            self._move_server_clock()
        for name, module in list(sys.modules.items()):
            if name != __name__ and name.partition(".")[0] not in _KEEP_REAL_TIME:
                self._replace_in(getattr(module, "__dict__", {}))

    def reset(self) -> None:
        """Go back to the real time."""
        self.offset = 0.0
        while self._undo:
            self._undo.pop()()

    def _replace_in(self, names: dict[str, Any]) -> None:
        for name, value in list(names.items()):
            if id(value) in self._versions:
                names[name] = self._versions[id(value)]
                self._undo.append(lambda name=name, value=value: names.__setitem__(name, value))  # type: ignore[misc]

    def _move_server_clock(self) -> None:
        """Move what this library reads from a MongoDB server; with mongomock, that is this process's time."""
        original = ServerClock.__call__

        def moved(clock: ServerClock) -> datetime.datetime:
            return original(clock) + datetime.timedelta(seconds=self.offset if clock._is_server else 0)

        setattr(ServerClock, "__call__", moved)  # noqa: B010 - mypy rejects the assignment
        self._undo.append(lambda: setattr(ServerClock, "__call__", original))


def _moved_versions(now: Callable[[], float]) -> dict[int, Any]:
    """Return the versions of all that tells the time, by the ID of the original."""
    utc, real = datetime.timezone.utc, datetime.datetime
    moved_datetime = _moved_class(
        real,
        now=lambda tz=None: real.fromtimestamp(now(), tz),
        today=lambda: real.fromtimestamp(now()),
        utcnow=lambda: real.fromtimestamp(now(), utc).replace(tzinfo=None),
    )
    moved_date = _moved_class(datetime.date, today=lambda: real.fromtimestamp(now()).date())
    moved_functions = {"time": now, "time_ns": lambda: int(now() * 1e9)}
    return {
        id(datetime): _moved_module(datetime, datetime=moved_datetime, date=moved_date),
        id(datetime.datetime): moved_datetime,
        id(datetime.date): moved_date,
        id(time): _moved_module(time, **moved_functions),
        **{id(getattr(time, name)): function for name, function in moved_functions.items()},
    }


def _moved_class(real: type, **functions: Callable[..., Any]) -> type:
    """Return a subclass with other functions, whose instances are those of the class itself."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, real)

    new = {"__new__": lambda cls, *args, **options: real(*args, **options)}
    return Meta(real.__name__, (real,), new | {name: staticmethod(each) for name, each in functions.items()})


def _moved_module(real: ModuleType, **names: Any) -> ModuleType:
    module = ModuleType(real.__name__)
    vars(module).update(vars(real) | names)
    return module


process_time = ProcessTime()
