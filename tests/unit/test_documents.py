"""What documents point at is there, and their tables list all that there is."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from app.contracts.policies import RULES
from app.contracts.tenants import SCOPES
from app.evidence.registry import FORMATS
from app.settings import Settings
from tests.integration.bad_requests import cases

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
)

FENCE: Final = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
# Also around a picture: `[![what](picture)](target)`.
LINK: Final = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
PICTURE: Final = re.compile(r"<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")
HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def links(document: Path) -> Iterator[str]:
    """Where a document points to in this repository: a path, an anchor, or both."""
    text = prose(document)
    for target in [*LINK.findall(text), *PICTURE.findall(text)]:
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(document: Path) -> set[str]:
    """The anchors that headings get: lower case, hyphens for blanks, `-1` where there is a second."""
    found: dict[str, int] = {}
    names = set()
    for heading in HEADING.findall(prose(document)):
        said = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
        seen = found.get(slug, 0)
        found[slug] = seen + 1
        names.add(f"{slug}-{seen}" if seen else slug)
    return names


def broken(document: Path, target: str) -> bool:
    """Whether a link of a document leads nowhere."""
    path, _, anchor = target.partition("#")
    aim = (document.parent / path).resolve() if path else document
    if not aim.exists():
        return True
    return bool(anchor) and aim.suffix == ".md" and anchor not in anchors(aim)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [target for target in links(document) if broken(document, target)] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            ahead += [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
    assert [page for page in DOCUMENTS if page not in reached and page.name != "CHANGELOG.md"] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def first_cells(page: str, section: str = "") -> list[str]:
    """The first cells of the tables of a page, or of the section with that heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)


def test_the_table_of_settings_has_every_setting_and_no_other() -> None:
    cells = " ".join(first_cells("configuration.md"))
    # Read before there are settings: where these are; which service the commands and the client talk to.
    others = {"SECRETS_DIRECTORY", "URL", "API_KEY"}
    assert (
        set(re.findall(r"`MEMAUDIT_(\w+)`", cells))
        == {name.upper() for name in Settings.model_fields} | others
    )


def names(cells: list[str]) -> set[str]:
    """The names that cells begin with, all where there are several."""
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell.partition(" {")[0])}


def test_the_table_of_routes_has_the_scope_of_each() -> None:
    """The same that `test_bad_input` tries: it refuses keys of other scopes."""
    text = (ROOT / "docs" / "access.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z]+ /.*?)` \| `(.*?)` \|$", text, re.MULTILINE)
    assert dict(listed) == {route: case.scope for route, case in cases(defaultdict(str)).items()}


def test_tables_list_every_scope_rule_and_format() -> None:
    assert names(first_cells("configuration.md", "Scopes of keys")) == set(SCOPES)
    assert names(first_cells("policies.md", "The rules")) >= set(RULES)
    assert names(first_cells("evidence.md")) >= set(FORMATS)
