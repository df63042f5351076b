"""Secrets planted where they must never come out, and a look at everything that comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from tests.shop import JWT_SECRET, STRIPE_KEY

WEBHOOK_SECRET = "whsec_canary_0a1b2c3d4e5f60718293"
PASSWORD_HASH = "canary-hash-4fJ8kq2Lx0"
EMAIL = "canary.ann@people.example"
SECRETS = frozenset((JWT_SECRET, STRIPE_KEY, WEBHOOK_SECRET, PASSWORD_HASH))
"""What nobody may be told, whoever asks."""


class Canaries(logging.Handler):
    """Hears every log record, is shown every answer, and counts the secrets in them.

    A user's address is a secret, too, but for the lists that admins are answered.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.hits: list[str] = []
        self.records = 0
        self.answers = 0
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("pymongo.") and record.levelno == logging.DEBUG:
            return  # the driver's own record of every command, documents and all
        self.records += 1
        facts = {name: value for name, value in vars(record).items() if name not in ("msg", "args")}
        self._look(f"{self._formatter.format(record)} {facts}", [*SECRETS, EMAIL], "log")

    def inspect(self, status: int, headers: Iterable[Any], body: bytes, *, names_users: bool = False) -> None:
        """Look at an answer.

        :param names_users: whether it may name the users of purchases.
        """
        self.answers += 1
        secrets = SECRETS if names_users else [*SECRETS, EMAIL]
        self._look(f"{status} {list(headers)} {body.decode(errors='replace')}", secrets, "answer")

    def _look(self, text: str, secrets: Iterable[str], where: str) -> None:
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
    """A user's document with what must not come out."""
    return {"name": "Ann", "role": "user", "email": EMAIL, "passwordHash": PASSWORD_HASH} | fields
