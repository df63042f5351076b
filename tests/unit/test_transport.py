"""Transport: requests to Stripe end in time, whatever the server does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import stripe

from flask_refunds.clock import Deadline
from flask_refunds.stripe_client.transport import Transport, request_deadline

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Run a server that reads a request, passes the connection to ``answer``, and waits for the end."""
    ended = threading.Event()

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                answer(connection, ended)
                ended.wait(10)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        thread.join()


def get(url: str, *, timeout: float = 0.3, overall: float = 10.0) -> bytes:
    transport = Transport(url, timeout)
    with closing(transport), request_deadline(Deadline.after(overall)):
        body, _, _ = transport.request("get", url, {})
    return body


def test_complete_response_is_returned() -> None:
    with server(lambda connection, _: connection.sendall(ANSWER % (5, b"hello"))) as url:
        assert get(url, timeout=10) == b"hello"


def drip(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.wait(0.02):
        try:
            connection.sendall(b"x")
        except OSError:
            return


@pytest.mark.parametrize("limits", [{"timeout": 0.3}, {"timeout": 8.0, "overall": 0.3}])
def test_silent_or_slow_response_ends_at_the_time_limit(limits: dict[str, float]) -> None:
    for answer in (lambda connection, ended: None, drip):
        with server(answer) as url:
            before = Deadline.after(5)
            with pytest.raises(stripe.APIConnectionError):
                get(url, **limits)
            assert before.remaining() > 0


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_broken_response_raises(said: bytes) -> None:
    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_RDWR)

    with server(answer) as url, pytest.raises(stripe.APIConnectionError):
        get(url, timeout=5)


def test_endless_response_raises_for_its_size() -> None:
    def flood(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while not ended.is_set():
                connection.sendall(b"x" * 65536)
        except OSError:
            return

    # It fails for its size, long before the time limit.
    with server(flood) as url, pytest.raises(stripe.APIConnectionError, match="ValueError"):
        get(url, timeout=10)


def test_refused_connection_raises_with_its_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(stripe.APIConnectionError) as caught:
        get(f"http://127.0.0.1:{port}")
    assert caught.value.__cause__ is not None


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda connection, _: connection.sendall(ANSWER % (5, b"proxy"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        assert get("http://stripe.invalid/v1", timeout=5) == b"proxy"


def test_no_proxy_setting_connects_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server(lambda connection, _: connection.sendall(ANSWER % (6, b"direct"))) as url:
        assert get(url, timeout=5) == b"direct"
