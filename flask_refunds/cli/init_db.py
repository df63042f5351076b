"""``flask refunds init-db``: the indexes that our queries need."""

from __future__ import annotations

import sys

import click
from flask.cli import with_appcontext
from pymongo.errors import OperationFailure

from ..errors import DatabaseUnavailable
from ..extension import current_refunds
from ..storage.connection import Database
from ..storage.indexes import IndexStatus, State, build, inspect_indexes, required_indexes
from .errors import EXIT_NEEDS_REVIEW, fail, reporting_errors
from .options import as_json_option
from .output import print_json, print_table

_TO_BUILD = "to build"


@click.command("init-db")
@click.option("--dry-run", is_flag=True, help="Say what there is to build, and build nothing.")
@as_json_option
@with_appcontext
@reporting_errors
def init_db(dry_run: bool, as_json: bool) -> None:
    """Build the indexes that refunds need, where they are missing, and never drop or change one.

    Says first what it will build and on what. Reads and writes go on meanwhile. Run it again at will. Exits
    with 1 where an index's name is another's, with 2 where one cannot be built.
    """
    refunds = current_refunds()
    found = inspect_indexes(refunds.database, required_indexes(refunds.settings))
    missing = [each for each in found if each.state is State.MISSING]
    if as_json:
        print_json(
            {"database": refunds.database.name, "dryRun": dry_run, "indexes": list(map(_shown, found))}
        )
    else:
        _tell(refunds.database, found)
    if not dry_run:
        for each in missing:
            _build(refunds.database, each, quiet=as_json)
    elif not as_json:
        click.echo(f"{len(missing)} to build; nothing was done (dry run).")
    if any(each.state is State.NAME_CONFLICT for each in found):
        sys.exit(EXIT_NEEDS_REVIEW)


def _tell(database: Database, found: list[IndexStatus]) -> None:
    click.echo(f"Database {database.name}:")
    rows = [(str(each.index), _state(each), each.index.purpose, _remark(each)) for each in found]
    print_table(("Index", "State", "Serves", "Remark"), rows)


def _state(found: IndexStatus) -> str:
    return _TO_BUILD if found.state is State.MISSING else found.state.value


def _remark(found: IndexStatus) -> str:
    if found.state is State.NAME_CONFLICT:
        return f"{found.served_by} has other fields or options and is left alone; drop or rename it"
    if found.state is State.MISSING and found.similar:
        return f"beside {', '.join(found.similar)}, of other options, which stays"
    return f"as {found.served_by}" if found.served_by not in (None, found.index.name) else ""


def _shown(found: IndexStatus) -> dict[str, object]:
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


def _build(database: Database, found: IndexStatus, *, quiet: bool) -> None:
    if not quiet:
        click.echo(f"Building {found.index} …")
    try:
        build(database, found.index)
    except DatabaseUnavailable as error:
        cause = error.__cause__
        words = cause.details.get("errmsg") if isinstance(cause, OperationFailure) and cause.details else None
        fail(f"{found.index} cannot be built: {words or 'the database does not answer'}. Run it again.")
