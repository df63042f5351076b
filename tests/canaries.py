"""Known secrets in the config and the documents, and a check that no response or log record has one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from tests.shop import JWT_SECRET, STRIPE_KEY

WEBHOOK_SECRET = "whsec_canary_0a1b2c3d4e5f60718293"
PASSWORD_HASH = "canary-hash-4fJ8kq2Lx0"
EMAIL = "canary.ann@people.example"
SECRETS = frozenset((JWT_SECRET, STRIPE_KEY, WEBHOOK_SECRET, PASSWORD_HASH))
"""Secrets that no response and no log record may contain."""


class Canaries(logging.Handler):
    """Checks all log records, and the responses passed to :meth:`inspect`.

    The e-mail address of a user is a secret, too, except in lists for admins.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.hits: list[str] = []
        self.records = 0
        self.answers = 0
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("pymongo.") and record.levelno == logging.DEBUG:
            return  # PyMongo logs every command with its documents
        self.records += 1
        extra = {name: value for name, value in vars(record).items() if name not in ("msg", "args")}
        self._check(f"{self._formatter.format(record)} {extra}", [*SECRETS, EMAIL], "log")

    def inspect(self, status: int, headers: Iterable[Any], body: bytes, *, names_users: bool = False) -> None:
        """Check a response.

        :param names_users: whether it may contain the users of purchases.
        """
        self.answers += 1
        secrets = SECRETS if names_users else [*SECRETS, EMAIL]
        self._check(f"{status} {list(headers)} {body.decode(errors='replace')}", secrets, "answer")

    def _check(self, text: str, secrets: Iterable[str], where: str) -> None:
        self.hits += [f"{secret} in {where}: {text[:2000]}" for secret in secrets if secret in text]

    def __enter__(self) -> Canaries:
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *error: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level)


def planted(**fields: Any) -> Mapping[str, Any]:
    """Return a user's document that contains secrets."""
    return {"name": "Ann", "role": "user", "email": EMAIL, "passwordHash": PASSWORD_HASH} | fields
