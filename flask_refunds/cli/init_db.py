"""``flask refunds init-db``: the indexes that our queries need."""

from __future__ import annotations

import sys

import click
from flask.cli import with_appcontext
from pymongo.errors import OperationFailure

from ..errors import DatabaseUnavailable
from ..extension import current_refunds
from ..storage.connection import Database
from ..storage.indexes import State, Survey, build, survey, wanted_indexes
from .errors import EXIT_ATTENTION, fail, reporting_errors
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
    found = survey(refunds.database, wanted_indexes(refunds.settings))
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
    if any(each.state is State.TAKEN for each in found):
        sys.exit(EXIT_ATTENTION)


def _tell(database: Database, found: list[Survey]) -> None:
    click.echo(f"Database {database.name}:")
    rows = [(str(each.index), _state(each), each.index.why, _remark(each)) for each in found]
    print_table(("Index", "State", "Serves", "Remark"), rows)


def _state(found: Survey) -> str:
    return _TO_BUILD if found.state is State.MISSING else found.state.value


def _remark(found: Survey) -> str:
    if found.state is State.TAKEN:
        return f"{found.serving} has other fields or options and is left alone; drop or rename it"
    if found.state is State.MISSING and found.beside:
        return f"beside {', '.join(found.beside)}, of other options, which stays"
    return f"as {found.serving}" if found.serving not in (None, found.index.name) else ""


def _shown(found: Survey) -> dict[str, object]:
    index = found.index
    return {
        "collection": index.collection,
        "keys": dict(index.keys),
        "options": dict(index.options),
        "name": index.name,
        "state": found.state.value,
        "serving": found.serving,
        "beside": list(found.beside),
    }


def _build(database: Database, found: Survey, *, quiet: bool) -> None:
    if not quiet:
        click.echo(f"Building {found.index} …")
    try:
        build(database, found.index)
    except DatabaseUnavailable as error:
        cause = error.__cause__
        words = cause.details.get("errmsg") if isinstance(cause, OperationFailure) and cause.details else None
        fail(f"{found.index} cannot be built: {words or 'the database does not answer'}. Run it again.")
