"""The README, SECURITY.md and the pages of docs/ are true: what they show runs, and prints what they say."""

from __future__ import annotations

import json
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from graphql import parse, validate
from packaging.requirements import Requirement
from typer.main import get_command

from graph.schema import executable
from graph.server.cli import cli
from graph.server.graphql import pipeline
from graph.server.settings import Settings
from persistence.demo import seed as seeding
from tests.conftest import settings_for
from tests.support.page_examples import RUNNERS, Shell, agrees, blocks
from tests.support.service import running

ROOT = Path(__file__).parents[3]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")))
TOURS = [page for page in PAGES if any(block.kind in RUNNERS for block in blocks(ROOT / page))]
PARTS = {"python", "system-packages", "tidy"}  # Of other scripts.
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def test_name_every_setting_and_no_other() -> None:
    table = (ROOT / "README.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == {name.upper() for name in Settings.model_fields}


def test_name_every_script() -> None:
    table = (ROOT / "README.md").read_text().partition("## Commands")[2]
    programs = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK)}
    assert set(re.findall(r"^\| `scripts/([a-z-]+)", table, re.MULTILINE)) == programs - PARTS


def test_architecture_page_names_every_folder() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## Folders")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| `")]
    named = {folder: first.strip().strip("`") for folders, _, first in rows for folder in re.findall(r"`([a-z/_]+)/`", folders)}
    assert set(named) == {
        folder for folder in code_folders() if folder.count("/") and folder not in {"graph/kit", "graph/server", "persistence/kit"}
    }
    assert [folder for folder, first in named.items() if not (ROOT / folder / first).exists()] == []


def test_architecture_drawing_names_every_folder() -> None:
    drawn = set(re.findall(r'class="name"[^>]*>([a-z_]+)<', (ROOT / "docs" / "architecture.svg").read_text()))
    rooms = {folder.rsplit("/", 1)[1] for folder in code_folders() if re.fullmatch(r"(graph/kit|graph/server|persistence/kit)/\w+", folder)}
    entities = {path.stem for path in (ROOT / "graph").iterdir()}
    assert rooms - drawn == set()
    assert drawn - rooms - entities == {"browser"}


def code_folders() -> set[str]:
    found = {path.parent for package in ("graph", "persistence") for path in (ROOT / package).rglob("*.py")}
    return {
        folder.relative_to(ROOT).as_posix() for folder in found if "migrations" not in folder.parts and "node_modules" not in folder.parts
    }


def test_contributing_page_finds_forty_behaviours() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where things are")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    files = {behaviour.strip(): re.findall(r"`([^`]+)`", names) for behaviour, names in rows}
    assert len(files) == len(rows) >= 40, "each behaviour once"
    assert [behaviour for behaviour, names in files.items() if not 1 <= len(names) <= 2] == []
    assert [name for names in files.values() for name in names if not (ROOT / name).is_file()] == []


def test_pipeline_names_the_file_of_each_phase() -> None:
    phases = re.findall(r"^    (\w[\w, ]*?)  .*?  (graph/.*)$", pipeline.__doc__ or "", re.MULTILINE)
    assert len(phases) == 11
    assert [name for _, names in phases for name in names.split(", ") if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(("page", "demo_items"), [*((page, 0) for page in TOURS), ("README.md", 1_000)])
async def test_show_what_happens(page: str, demo_items: int, node: str, tmp_path: Path) -> None:
    async with running(await settings_for("sqlite", tmp_path, rate_limits_enabled=True)) as service:
        if demo_items:
            await seeding.seed(service.database, demo_items, lambda _: None)
        shell = await Shell.start(service, tmp_path)
        behind: list[tuple[str, str]] = []
        try:
            for block in blocks(ROOT / page):
                if block.kind not in RUNNERS:
                    continue
                said = await shell.run(block)
                if block.in_background:
                    behind.append((said, block.shown or ""))
                elif block.shown is not None:
                    assert agrees(block.shown, said), f"{block.text}\nprinted\n{said}\ninstead of\n{block.shown}"
            for name, shown in behind:
                said = await shell.heard(name)
                assert agrees(shown, said), f"heard\n{said}\ninstead of\n{shown}"
        finally:
            await shell.end()


@pytest.mark.parametrize("page", PAGES)
def test_hold_documents_that_the_schema_allows(page: str) -> None:
    for block in blocks(ROOT / page):
        if block.kind == "graphql":
            assert validate(executable, parse(block.text)) == [], block.text


@pytest.mark.parametrize("page", PAGES)
def test_name_commands_that_there_are(page: str) -> None:
    for block in blocks(ROOT / page):
        for line in block.text.splitlines() if block.kind in {"console", "sh"} else ():
            for script in re.findall(r"(?:^|\s)(?:\./)?(scripts/[a-z-]+)", line):
                assert (ROOT / script).exists(), line
            for words in re.findall(r"(?:scripts/storegraph|-m graph) ([^|#]*)", line):
                assert set(re.findall(r"(?<=\s)--[a-z-]+", words)) <= options_of(words.split()), line


def options_of(words: list[str]) -> set[str]:
    """The options of the command that the words begin with, which may be below another one."""
    command: Any = get_command(cli)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    assert not hasattr(command, "commands") or words[0].startswith("-"), words
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


@pytest.mark.parametrize("page", PAGES)
def test_name_packages_to_install_that_their_programs_import(page: str) -> None:
    """What a reader installs is what the tests have: the right names, with the extras that are needed."""
    text = "\n".join(block.text for block in blocks(ROOT / page) if block.kind in {"console", "sh"})
    for line in re.findall(r"pip install (.+)$", text, re.MULTILINE):
        for requirement in map(Requirement, line.replace("'", "").split()):
            needed = [Requirement(each) for each in metadata.requires(requirement.name) or ()]
            for extra in requirement.extras:
                brought = [each for each in needed if each.marker and each.marker.evaluate({"extra": extra})]
                assert brought, line
                assert all(metadata.version(each.name) for each in brought), line
    clients = json.loads((ROOT / "tests" / "clients" / "package.json").read_text())["dependencies"]
    for line in re.findall(r"npm install (.+)$", text, re.MULTILINE):
        assert set(line.split()) <= clients.keys(), line


def test_tell_what_to_install_before_each_program_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for kind, module, install in (("python", "gql", "pip install 'gql[httpx]'"), ("js &", "graphql-ws", "npm install graphql-ws ws")):
        program = text.index(f"```{kind}\n")
        assert 0 < text.index(install) < program < text.index(module, program)


@pytest.mark.parametrize("page", PAGES)
def test_lead_to_places_that_there_are(page: str) -> None:
    for path, anchor in LINK.findall((ROOT / page).read_text()):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
