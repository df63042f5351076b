"""Three real ``mongod`` processes as one replica set, and its failures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.mongod import Mongod

SETTLE_SECONDS = 90


class ReplicaSet:
    """A three-node replica set with short election timeouts."""

    def __init__(self, binary: str) -> None:
        self.members = [Mongod(binary, replica_set="rs") for _ in range(3)]

    def start(self) -> None:
        """Start all members and wait until they are healthy."""
        for member in self.members:
            member.start()
        self.members[0].initiate(self.members)
        self.wait_until_healthy()

    def stop(self) -> None:
        """Kill all members and remove their files."""
        for member in self.members:
            member.stop()

    def uri(self, database: str) -> str:
        """Return the URI of one database on the set."""
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"mongodb://{hosts}/{database}?replicaSet=rs"

    def primary(self) -> Mongod:
        """Return the current primary."""
        found: list[Mongod] = []

        def is_found() -> bool:
            found[:] = [member for member in self.members if _state(member) == "PRIMARY"]
            return len(found) == 1

        wait_until(is_found)
        return found[0]

    def secondaries(self) -> list[Mongod]:
        """Return the current secondaries."""
        primary = self.primary()
        return [member for member in self.members if member is not primary]

    def wait_until_healthy(self) -> None:
        """Wait for one primary, and two secondaries with all of its writes.

        Before that, a majority read on the primary doesn't show its latest writes.
        """
        wait_until(lambda: sorted(map(_state, self.members)) == ["PRIMARY", "SECONDARY", "SECONDARY"])
        wait_until(self._is_replicated)

    def _is_replicated(self) -> bool:
        with self.primary().client() as client:
            concern = {"w": len(self.members), "wtimeout": 1000}
            try:
                client.admin.command("appendOplogNote", 1, data={"healthy": True}, writeConcern=concern)
            except PyMongoError:
                return False
            return True

    def kill(self, member: Mongod) -> None:
        """Send SIGKILL to a member."""
        assert member.process is not None
        member.process.kill()
        member.process.wait()

    def restart(self, member: Mongod) -> None:
        """Start a killed member again with its files."""
        member.start()
        self.wait_until_healthy()

    def step_down(self) -> None:
        """Make the primary step down."""
        with self.primary().client() as client, contextlib.suppress(PyMongoError):
            client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)


@contextlib.contextmanager
def pause_replication(*members: Mongod) -> Iterator[None]:
    """Keep these members from replicating. They still vote."""
    for member in members:
        with member.client() as client:
            counted = client.admin.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
            client.admin.command(
                "waitForFailPoint", "stopReplProducer", timesEntered=counted["count"] + 1, maxTimeMS=30_000
            )
    try:
        yield
    finally:
        for member in members:
            with member.client() as client:
                client.admin.command("configureFailPoint", "stopReplProducer", mode="off")


def wait_until(condition: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition didn't become true in time"
        time.sleep(0.05)


def _state(member: Mongod) -> str:
    """Return ``PRIMARY``, ``SECONDARY`` or ``UNAVAILABLE``."""
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(
        member.uri, serverSelectionTimeoutMS=500, socketTimeoutMS=500, connectTimeoutMS=500
    )
    with client:
        try:
            hello = client.admin.command("hello")
        except PyMongoError:
            return "UNAVAILABLE"
    if hello["isWritablePrimary"]:
        return "PRIMARY"
    return "SECONDARY" if hello["secondary"] else "UNAVAILABLE"
