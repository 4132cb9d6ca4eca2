"""The documentation site: it builds from docs/, every page is found in it, and a reader's browser asks nobody else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
MKDOCS: Final = Path(sys.executable).with_name("mkdocs")
ASKS: Final = re.compile(r'<(?:script|img|link|iframe|source)[^>]*?(?:src|href)="?((?:https?:)?//[^"> ]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [MKDOCS, "build", "--strict", "--quiet", "--site-dir", folder], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_of_the_project_is_a_page_of_the_site(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    assert {page.parent / "index" if page.name == "README" else page for page in pages} <= built


def test_every_page_is_reached_from_the_first_one(site: Path) -> None:
    found, ahead = set[Path](), [site / "index.html"]
    while ahead:
        page = ahead.pop()
        if page not in found:
            found.add(page)
            links = re.findall(r'href="?([^"#>: ]+\.html)', page.read_text(encoding="utf-8"))
            ahead += [(page.parent / link).resolve() for link in links]
    assert {page.resolve() for page in site.rglob("*.html")} - found <= {site.resolve() / "404.html"}


def test_no_page_asks_another_host(site: Path) -> None:
    assert [hit for page in site.rglob("*.html") for hit in ASKS.findall(page.read_text(encoding="utf-8"))] == []
    assert ASKS.findall('<script defer src="//cdn.example/x.js">'), "the search can fail"
