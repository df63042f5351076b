"""Write to standard output, or to a file that gets its name when it is complete."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass
class Output:
    """An open output.

    :param partial: the file that holds the text until it is complete; ``None`` for standard output.
    :param complete: whether the file gets its name when the block ends.
    """

    stream: TextIO
    partial: Path | None
    complete: bool


@contextmanager
def open_output(path: Path | None, *, keep_partial: bool = False) -> Iterator[Output]:
    """Open a file, or standard output for ``None``. Both are UTF-8 and keep line ends as they are written.

    A pipe or a device is written directly, because it can't be replaced.

    :param keep_partial: the file gets its name only if the block sets ``complete``. Otherwise it stays beside
        it, and ends in ``.part``. Without this option it gets its name unless the block raises.
    :raises OSError: it can't be written.
    """
    if path is None:
        stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
        try:
            yield Output(stream, None, complete=False)
        finally:
            stream.detach()
        return
    path = path.resolve()  # the file behind a link
    if path.exists() and not path.is_file():
        with open(path, "w", encoding="utf-8", newline="") as stream:
            yield Output(stream, None, complete=False)
        return
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as stream:
            output = Output(stream, Path(partial), complete=not keep_partial)
            yield output
        if output.complete:
            if path.exists():
                shutil.copymode(path, partial)
            os.replace(partial, path)
    except BaseException:
        if not keep_partial:
            os.unlink(partial)
        raise
