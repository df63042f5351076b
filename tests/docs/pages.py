"""Read the documentation's pages and their fenced code blocks."""

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
    """A fenced code block.

    :param kind: the language after the opening fence.
    :param heading: the nearest heading above, of level 1 or 2.
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
        """The file that the block belongs to, named by a comment in its first line."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else None


def read(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
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
    assert fence is None, f"{page}: unclosed block"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
