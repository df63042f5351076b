"""A file with all that a sandbox and an app's database hold, to reproduce a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from bson import json_util
from bson.binary import UuidRepresentation

from ..storage.connection import Database
from .sandbox import StripeSandbox

FORMAT = 1
_PURCHASES = "$purchases"
"""Where the purchases are kept, beside the collections, whose names can't contain a dollar sign."""
_OPTIONS = json_util.RELAXED_JSON_OPTIONS.with_options(uuid_representation=UuidRepresentation.STANDARD)


def save_case(
    path: str | PathLike[str],
    stripe: StripeSandbox,
    database: Database,
    purchases: Sequence[Mapping[str, Any]],
) -> None:
    """Write a case to a file, as JSON."""
    names = sorted(database.list_collection_names())
    documents = {name: list(database[name].find()) for name in names} | {_PURCHASES: list(purchases)}
    case = {
        "format": FORMAT,
        "sandbox": stripe.dump(),
        "documents": json.loads(json_util.dumps(documents, json_options=_OPTIONS)),
    }
    Path(fspath(path)).write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")


def load_case(path: str | PathLike[str], stripe: StripeSandbox, database: Database) -> list[dict[str, Any]]:
    """Replace what the sandbox and the database hold by a case, and return its purchases.

    :raises ValueError: the file isn't a case, or was saved by another version.
    """
    case = json.loads(Path(fspath(path)).read_text(encoding="utf-8"))
    if not isinstance(case, dict) or case.get("format") != FORMAT:
        raise ValueError(f"{fspath(path)} isn't a case that this version can load. Save it again.")
    options = _OPTIONS.with_options(uuid_representation=database.codec_options.uuid_representation)
    documents = json_util.loads(json.dumps(case["documents"]), json_options=options)
    purchases: list[dict[str, Any]] = documents.pop(_PURCHASES)
    stripe.load(case["sandbox"], at_its_time=True)
    for name in {*database.list_collection_names(), *documents}:
        database[name].delete_many({})
        if documents.get(name):
            database[name].insert_many(documents[name])
    return purchases
