"""Check the links within the repository, and the structure of the README."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, ROOT, blocks_of, read

_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)

DOCS = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - {"index.md"}


def prose(page: str) -> str:
    """Return a page without its blocks."""
    return _FENCED.sub("", read(page))


def links_of(page: str) -> list[str]:
    return [link for link in _LINK.findall(prose(page)) if not link.startswith(("https://", "http://"))]


def anchors_of(page: str) -> set[str]:
    """Return the anchors that GitHub and MyST make of a page's headings."""
    titles = (
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(prose(page))
    )
    return set(titles)


def problem_of(page: str, link: str) -> str | None:
    """Return what is wrong with a link, or ``None``."""
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    if not target.exists():
        return f"{page} links to {path}, which doesn't exist"
    if anchor and anchor not in anchors_of(str(target.resolve().relative_to(ROOT))):
        return f"{page} links to {link}, but the page has no such heading"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_resolve(page: str) -> None:
    assert [problem for link in links_of(page) if (problem := problem_of(page, link))] == []


def test_broken_link_is_detected() -> None:
    assert problem_of("README.md", "docs/quickstart.md#1-install") is None
    assert problem_of("docs/requirements.md", "#status-words") is None
    assert problem_of("README.md", "docs/quikstart.md")
    assert problem_of("README.md", "docs/quickstart.md#0-install")


def test_every_page_is_linked_from_index_and_readme() -> None:
    assert {link.partition("#")[0] for link in links_of("docs/index.md")} == DOCS
    assert {f"docs/{page}" for page in DOCS} <= set(links_of("README.md"))


def test_every_page_is_in_one_section_of_the_contents() -> None:
    sections = [block.text for block in blocks_of("docs/index.md") if block.kind == "{toctree}"]
    pages = [f"{name}.md" for section in sections for name in re.findall(r"^[a-z-]+$", section, re.MULTILINE)]
    assert len(sections) == 6
    assert sorted(pages) == sorted(DOCS)


def test_readme_has_its_parts_in_order() -> None:
    text = read("README.md")
    parts = [
        "MongoDB",
        "![",
        "What you get:",
        "Not included:",
        "examples/storefront",
        "app.register_blueprint(refunds_bp)",
        "refunds init-db",
        "Your app must provide",
        "In production",
        "## Why not write it yourself",
        "https://github.com/",
        "## What it guarantees",
        "-m pytest",
        "## Documentation",
    ]
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    assert len(text.splitlines()) < 150
