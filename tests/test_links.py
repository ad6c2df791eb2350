"""Every link of the pages leads to a file, and to a heading of it where it names one."""

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def linked(page: Path) -> set[Path]:
    """Return the files that a page links to."""
    names = {name for name, _ in LINK.findall(page.read_text(encoding="utf-8"))}
    return {(page.parent / name).resolve() for name in names}


def test_every_page_is_listed_in_the_index_and_that_in_the_readme() -> None:
    index = ROOT / "docs" / "index.md"
    assert {*PAGES} - {index} <= linked(index)
    assert index in linked(ROOT / "README.md")
