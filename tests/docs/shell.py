"""Check the documentation's command lines with the programs that parse them."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from importlib import import_module
from itertools import pairwise
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from urllib.request import urlopen

import click
import flask.cli
import gunicorn.config
from werkzeug.routing import MapAdapter

from flask_refunds.testing import StripeSandbox
from tests.docs.pages import BLOCKS, ROOT, Block
from tests.shop import make_app

APP = make_app()
OPERATORS = {";", "&", "&&", "|", "||"}
UNCHECKED = {"cd", "echo", "git", "head", "mutmut", "pip-audit"}
"""Commands whose arguments aren't checked."""

SUBSTITUTE = "2026-11-01"
"""The text that replaces ``$(…)``. Every argument accepts it, also a date."""

_SUBSTITUTION = re.compile(r"\$\(((?:[^()\"']|\"[^\"]*\"|'[^']*')*)\)")
_ROUTE = re.compile(r"@\w+\.(get|post)\(\"([^\"]+)\"\)")
_EVENTS = {"refund.created", "refund.updated", "refund.failed", "charge.refunded"}


def check_shell(block: Block) -> None:
    """Check a shell block: its syntax and each command."""
    check_commands(block.text, block)


def check_terminal(block: Block) -> None:
    """Check the commands after ``$``. The other lines are output."""
    typed = typed_in(block)
    assert typed, "no line begins with $"
    for line in typed:
        check_commands(line, block)


def typed_in(block: Block) -> list[str]:
    """Return the commands after ``$``."""
    return [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]


def check_commands(text: str, block: Block) -> None:
    """Check each command of a shell script, including those in ``$(…)``."""
    subprocess.run(["bash", "-n", "-c", text], check=True)
    for parts in commands_in(text):
        if parts[0].startswith(".ci/") and (ROOT / parts[0]).is_file():
            continue
        name = parts[0].rpartition("/")[2]
        assert name in CHECKS or name in UNCHECKED, f"no check for {name!r}"
        CHECKS.get(name, lambda *_: None)(parts[1:], block)


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the commands of a shell script, without variable assignments and redirections."""
    inner = _SUBSTITUTION.search(text)
    while inner:
        yield from commands_in(inner[1])
        text = text[: inner.start()] + SUBSTITUTE + text[inner.end() :]
        inner = _SUBSTITUTION.search(text)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.wordchars += "$:=@%,+[]{}…^"
        parts: list[str] = []
        for word in [*lexer, ";"]:
            if word in OPERATORS:
                if kept := _without_redirection(parts):
                    yield kept
                parts = []
            else:
                parts.append(word)


def _without_redirection(parts: list[str]) -> list[str]:
    kept: list[str] = []
    into = False
    for word in parts:
        if set(word) <= set("<>&"):
            into = True
            kept = kept[:-1] if kept and kept[-1] in ("1", "2") else kept
        elif into:
            into = False
        else:
            kept.append(word)
    if kept[:1] == ["export"]:
        kept = kept[1:]
    while kept and re.match(r"\w+=", kept[0]):
        kept = kept[1:]
    return kept


class _Parsed(Exception):
    """The arguments are valid. Raised to stop the program before it runs."""


def _check_flask(arguments: list[str], block: Block) -> None:
    if "refunds" not in arguments:
        assert arguments[:3:2] == ["--app", "run"], arguments
        flask.cli.run_command.make_context("run", arguments[3:])
        return
    name, *rest = arguments[arguments.index("refunds") + 1 :]
    group = APP.cli.commands["refunds"]
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    assert command is not None, f"unknown command: flask refunds {name}"
    command.make_context(name, rest)


def _check_python(arguments: list[str], block: Block) -> None:
    first, *rest = arguments
    if first == "-m":
        _check_module(rest[0], rest[1:])
    elif first == "-c":
        compile(rest[0], str(block), "exec")
    elif not any(each.file == first for each in BLOCKS if each.page == block.page):
        assert (ROOT / first).exists(), f"there is no {first}"
        if rest:
            _check_script(first, rest)


def _check_module(name: str, arguments: list[str]) -> None:
    if name == "venv":
        return
    if name == "pytest":
        for path, _, test in (each.partition("::") for each in arguments if each.startswith("tests/")):
            assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), f"there is no {path}::{test}"
        return
    main: Callable[[list[str]], Any] = import_module(f"{name}.__main__").main
    _parse_arguments(lambda: main(arguments))


def _check_script(path: str, arguments: list[str]) -> None:
    with patch.object(sys, "argv", [path, *arguments]):
        _parse_arguments(lambda: runpy.run_path(str(ROOT / path), run_name="__main__"))


def _parse_arguments(main: Callable[[], Any]) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(*args: Any, **kwargs: Any) -> None:
        parse(*args, **kwargs)
        raise _Parsed

    with patch.object(argparse.ArgumentParser, "parse_args", parse_only):
        try:
            main()
        except _Parsed:
            return
    raise AssertionError("the program doesn't parse arguments")


def _check_pip(arguments: list[str], block: Block) -> None:
    assert arguments[0] == "install"
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    known = set(config["options.extras_require"])
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= known, f"unknown extra {extras}"


def _check_curl(arguments: list[str], block: Block) -> None:
    if sandbox_urls := [each for each in arguments if urlsplit(each).path.startswith("/_sandbox/")]:
        _request_sandbox(sandbox_urls[0], arguments)
        return
    urls = [each for each in arguments if re.match(r"(https?://)?localhost:", each)]
    assert urls, f"no address: {arguments}"
    method = "POST" if {"-X", "POST"} <= set(arguments) or "-d" in arguments else "GET"
    for url in urls:
        check_route(method, url, block)


def _request_sandbox(url: str, arguments: list[str]) -> None:
    """Send the request to a new sandbox, which refuses unknown routes and fields."""
    fields = [value for option, value in pairwise(arguments) if option == "-d"]
    with StripeSandbox() as sandbox:
        urlopen(sandbox.url + urlsplit(url).path, "&".join(fields).encode()).close()


def check_route(method: str, url: str, block: Block) -> None:
    """Check that an address is a route of the library, or of a view on the same page."""
    path = re.sub(r"\$\w+|<\w+>", "x", urlsplit(url if "//" in url else f"//{url}").path)
    routes = {
        (kind.upper(), route)
        for each in BLOCKS
        if each.page == block.page
        for kind, route in _ROUTE.findall(each.text)
    }
    adapter: MapAdapter = APP.url_map.bind("localhost")
    assert (method, path) in routes or adapter.test(path, method), f"no route for {method} {path}"


def _check_gunicorn(arguments: list[str], block: Block) -> None:
    gunicorn.config.Config().parser().parse_args(arguments)


def _check_stripe(arguments: list[str], block: Block) -> None:
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert arguments[0] == "listen"
    assert set(options["--events"].split(",")) == _EVENTS
    check_route("POST", options["--forward-to"], block)


def _check_sphinx(arguments: list[str], block: Block) -> None:
    assert (ROOT / arguments[-2] / "conf.py").exists()


def _check_date(arguments: list[str], block: Block) -> None:
    subprocess.run(["date", *arguments], check=True, stdout=subprocess.DEVNULL)


CHECKS: dict[str, Callable[[list[str], Block], None]] = {
    "flask": _check_flask,
    "python": _check_python,
    "python3": _check_python,
    "pip": _check_pip,
    "curl": _check_curl,
    "gunicorn": _check_gunicorn,
    "stripe": _check_stripe,
    "sphinx-build": _check_sphinx,
    "date": _check_date,
}
"""The check for each program's arguments."""
