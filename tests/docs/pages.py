"""The pages of the documentation, and the fenced blocks on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    str(page.relative_to(ROOT))
    for folder, pattern in ((ROOT, "*.md"), (ROOT / "docs", "**/*.md"))
    for page in sorted(folder.glob(pattern))
]

_FENCE = re.compile(r"( *)(```+) *(\S*)")
_HEADING = re.compile(r"#{1,2} (.+)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :param kind: the word behind the fence.
    :param heading: the nearest heading above, of the first or second level.
    """

    page: str
    line: int
    kind: str
    text: str
    heading: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the block is said to be part of, by a comment in its first line."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else None


def read(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    found: list[Block] = []
    heading, fence, body = "", None, []
    for number, line in enumerate(read(page).splitlines(keepends=True), 1):
        if fence is None:
            match = _FENCE.match(line)
            if match:
                fence, start, body = match, number, []
            elif title := _HEADING.match(line):
                heading = title[1].strip()
        elif line.strip() == fence[2]:
            text = "".join(each.removeprefix(fence[1]) for each in body)
            found.append(Block(page, start, fence[3], text, heading))
            fence = None
        else:
            body.append(line)
    assert fence is None, f"{page}: a block has no end"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
