"""Every link within the repository leads somewhere, on its web site as in the built pages."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, ROOT, read

_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def prose(page: str) -> str:
    """A page without its blocks."""
    return _FENCED.sub("", read(page))


def links_of(page: str) -> list[str]:
    return [link for link in _LINK.findall(prose(page)) if not link.startswith(("https://", "http://"))]


def anchors_of(page: str) -> set[str]:
    """What GitHub and MyST make of a page's headings."""
    titles = (
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(prose(page))
    )
    return set(titles)


def broken(page: str, link: str) -> str | None:
    """What is wrong with a link, if anything is."""
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    if not target.exists():
        return f"{page} links to {path}, which is not there"
    if anchor and anchor not in anchors_of(str(target.resolve().relative_to(ROOT))):
        return f"{page} links to {link}, and there is no such heading"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_leads_somewhere(page: str) -> None:
    assert [found for link in links_of(page) if (found := broken(page, link))] == []


def test_a_dead_link_is_noticed() -> None:
    assert broken("README.md", "docs/quickstart.md#1-install") is None
    assert broken("docs/http.md", "#how-things-are-rendered") is None
    assert broken("README.md", "docs/quikstart.md")
    assert broken("README.md", "docs/quickstart.md#0-install")


def test_every_page_is_reached_from_the_index_and_from_the_readme() -> None:
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - {"index.md"}
    assert {link.partition("#")[0] for link in links_of("docs/index.md")} == pages
    assert {f"docs/{page}" for page in pages} <= set(links_of("README.md"))


def test_the_readme_says_things_in_their_order() -> None:
    text = read("README.md")
    parts = [
        "Refund completed purchases through Stripe",
        "app.register_blueprint(refunds_bp)",
        "![",
        "examples/storefront",
        "-m pytest",
        "## Why not write it yourself",
        "https://github.com/",
        "## What it guarantees",
        "## Links",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert len(text.splitlines()) < 150
