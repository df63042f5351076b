"""``flask refunds init-db``: build the indexes that the library's queries need."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from ..errors import DatabaseUnavailable
from ..extension import current_refunds
from ..storage.connection import Database
from ..storage.indexes import IndexStatus, State, build, inspect_indexes, required_indexes
from .errors import EXIT_NEEDS_REVIEW, fail, mongodb_answer, refunds_command
from .options import as_json_option
from .output import print_json, print_table


@refunds_command("init-db")
@click.option("--dry-run", is_flag=True, help="Print which indexes would be built, and build none.")
@click.option("--yes", is_flag=True, help="Don't ask before building indexes on your app's collections.")
@as_json_option
def init_db(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Build the missing indexes on the ledger and on your app's collections.

    It never drops or changes an index, and can be run again at any time. Reads and writes continue meanwhile.
    On a terminal, it asks before it builds indexes on your app's collections; with --json it doesn't.

    It also stores the figures of each day, from which reports are made.

    Exits with 1 if another index has the name of a required one, and with 2 if an index can't be built.
    """
    refunds = current_refunds()
    database, ledger = refunds.database, refunds.settings.refunds_collection
    found = inspect_indexes(database, required_indexes(refunds.settings))
    missing = [each for each in found if each.state is State.MISSING]
    in_app = [each for each in missing if not _is_own(each.index.collection, ledger)]
    if as_json:
        print_json({"database": database.name, "dryRun": dry_run, "indexes": list(map(_as_dict, found))})
    else:
        _print(database, ledger, found)
    if not dry_run:
        if in_app and not yes and not as_json and sys.stdin.isatty():
            _confirm(in_app)
        _build(database, missing, quiet=as_json)
        refunds.days.build_all()
    elif not as_json:
        click.echo(f"Dry run: {len(missing)} would be built.")
    if any(each.state is State.NAME_CONFLICT for each in found):
        sys.exit(EXIT_NEEDS_REVIEW)


def _print(database: Database, ledger: str, found: Sequence[IndexStatus]) -> None:
    click.echo(f"Database {database.name}:")
    rows = [(str(each.index), each.state.value, each.index.purpose, _remark(each, ledger)) for each in found]
    print_table(("Index", "State", "Needed for", "Remark"), rows)
    in_app = sorted({it.index.collection for it in found if not _is_own(it.index.collection, ledger)})
    click.echo(f"{' and '.join(in_app)} are collections of your app, {ledger} is this library's.")


def _is_own(collection: str, ledger: str) -> bool:
    return collection == ledger or collection.startswith(f"{ledger}.")


def _remark(found: IndexStatus, ledger: str) -> str:
    if found.creates_collection and not _is_own(found.index.collection, ledger):
        return "creates the collection"
    if found.state is State.NAME_CONFLICT:
        return f"{found.served_by} has other fields or options; drop or rename it"
    if found.state is State.VIEW:
        return "index the collection below this view"
    if found.state is State.MISSING and found.similar:
        return f"{', '.join(found.similar)} has other options, and stays"
    return f"as {found.served_by}" if found.served_by not in (None, found.index.name) else ""


def _as_dict(found: IndexStatus) -> dict[str, object]:
    index = found.index
    return {
        "collection": index.collection,
        "keys": dict(index.keys),
        "options": dict(index.options),
        "name": index.name,
        "state": found.state.value,
        "servedBy": found.served_by,
        "similar": list(found.similar),
    }


def _confirm(in_app: Sequence[IndexStatus]) -> None:
    names = ", ".join(sorted({each.index.collection for each in in_app}))
    if not click.confirm(f"Build {len(in_app)} indexes on collections of your app ({names})?", err=True):
        fail("No index was built.")


def _build(database: Database, missing: Sequence[IndexStatus], *, quiet: bool) -> None:
    began, rejected = time.monotonic(), []
    for each in missing:
        if not quiet:
            click.echo(f"Building {each.index} …")
        try:
            build(database, each.index)
        except DatabaseUnavailable as error:
            answer = mongodb_answer(error)
            if answer is None:
                fail(f"Can't build {each.index}: the database doesn't answer. Run the command again.")
            rejected.append(f"Can't build {each.index}. {answer}")
    if rejected:
        fail("\n".join([*rejected, "Correct this, and run the command again."]))
    if not quiet:
        indexes = "1 index" if len(missing) == 1 else f"{len(missing)} indexes"
        click.echo(f"{indexes} built in {time.monotonic() - began:.1f} s.")
