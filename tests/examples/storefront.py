"""The storefront in its own process, and an HTTP client for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
READY_WITHIN_SECONDS = 60.0
SETTLED_WITHIN_SECONDS = 30.0
CARD_SUCCEEDS = "4242424242424242"
CARD_DECLINED = "4000000000000002"

_ENVIRONMENT_KEYS = (
    "MONGO_URI",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_API_BASE",
    "JWT_SECRET_KEY",
    "MAIL_SERVER",
)
_CURL = re.compile(r'curl -X POST (\S+) -H "Authorization: (Bearer \S+)"')
_ACCOUNT = re.compile(r"(\S+@shop\.example) +(\S+)")
_T = TypeVar("_T")


def launch(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start ``python examples/storefront`` with only these services configured; warnings are errors."""
    inherited = {key: value for key, value in os.environ.items() if key not in _ENVIRONMENT_KEYS}
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / "storefront"), *arguments],
        env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environ},
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


class Storefront:
    """A running storefront.

    :param arguments: the command-line arguments.
    """

    def __init__(self, *arguments: str) -> None:
        self.process = launch(*arguments)
        self.printed = self._read_startup_message()
        self.url = self._find(r"Shop +(http://\S+)/")

    def _read_startup_message(self) -> str:
        assert self.process.stdout is not None
        lines = []
        timeout = threading.Timer(READY_WITHIN_SECONDS, self.process.kill)
        timeout.start()
        try:
            for line in self.process.stdout:
                lines.append(line)
                if line.startswith("Press Ctrl-C"):
                    return "".join(lines)
        finally:
            timeout.cancel()
        output, errors = self.process.communicate()
        raise AssertionError(f"The storefront didn't start:\n{''.join(lines)}{output}{errors}")

    def _find(self, pattern: str) -> str:
        match = re.search(pattern, self.printed)
        assert match is not None, self.printed
        return match[1]

    @property
    def curl(self) -> tuple[str, str]:
        """The URL and the Authorization header of the printed curl command."""
        match = _CURL.search(self.printed)
        assert match is not None, self.printed
        return match[1], match[2]

    @property
    def accounts(self) -> dict[str, str]:
        """The printed email addresses and passwords."""
        return dict(_ACCOUNT.findall(self.printed))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal to the process, and return its exit status and its stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=SETTLED_WITHIN_SECONDS)
        return self.process.returncode, errors

    def kill(self) -> None:
        """Kill the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def sign_in(self, name: str) -> SignedInUser:
        """Sign in with a printed password."""
        email = f"{name}@shop.example"
        status, body = call(
            "POST", f"{self.url}/api/sign-in", {"email": email, "password": self.accounts[email]}
        )
        assert status == 200, body
        return SignedInUser(self.url, f"Bearer {body['token']}")

    def content_id(self, title: str) -> str:
        """Return the ID of a content from the catalogue page."""
        with urllib.request.urlopen(f"{self.url}/") as response:
            page = response.read().decode()
        match = re.search(rf'{re.escape(title)}.*?value="([0-9a-f]{{24}})"', page, re.DOTALL)
        assert match is not None, page
        return match[1]


class SignedInUser:
    """An HTTP client with a user's token."""

    def __init__(self, url: str, authorization: str) -> None:
        self._url = url
        self._headers = {"Authorization": authorization}

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request with the user's token."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(method, self._url + path, body, self._headers | extra)

    def buy(self, *content_ids: str, card: str = CARD_SUCCEEDS, key: str) -> tuple[int, Any]:
        """Order contents in one payment."""
        order = {"contents": list(content_ids), "card": card}
        return self.call("POST", "/api/purchases", order, Idempotency_Key=key)

    def purchases(self) -> list[dict[str, Any]]:
        """Return the user's own purchases, newest first."""
        purchases: list[dict[str, Any]] = self.call("GET", "/api/purchases")[1]["purchases"]
        return purchases

    def wait_for_purchases(self, *purchase_ids: str) -> list[dict[str, Any]]:
        """Return these purchases once they are no longer pending."""

        def find() -> list[dict[str, Any]]:
            found = [purchase for purchase in self.purchases() if purchase["id"] in purchase_ids]
            return [] if any(purchase["status"] == "pending" for purchase in found) else found

        return eventually(find)

    def refund(self, purchase_id: str) -> tuple[int, Any]:
        """Refund a purchase with flask_refunds' endpoint."""
        return self.call("POST", f"/api/payments/admin/refund/{purchase_id}")


def call(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Send a request, and return the status and JSON of the response."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, headers or {}, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def eventually(find: Callable[[], _T]) -> _T:
    """Call ``find`` until it returns something true, and return that."""
    deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.02)
    return found
