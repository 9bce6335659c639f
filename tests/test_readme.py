"""The README is true: its settings are the settings, and its tour gives what it says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from graph.server.settings import Settings
from tests.conftest import settings_for
from tests.service import running

README = (Path(__file__).parent.parent / "README.md").read_text()
END = "--- end of block ---"


def test_names_every_setting_and_no_other() -> None:
    table = README.partition("## Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == {name.upper() for name in Settings.model_fields}


async def test_tour_gives_what_it_says(tmp_path: Path) -> None:
    tour = README.partition("### curl")[2].partition("\n### ")[0]
    blocks = re.findall(r"```(sh|json)\n(.*?)```", tour, re.DOTALL)
    script = "".join(f"{text}\necho '{END}'\n" for kind, text in blocks if kind == "sh")
    async with running(await settings_for("sqlite", tmp_path)) as service:
        said = await shell(script.replace("localhost:8000", service.url.removeprefix("http://")), tmp_path)
    answers = [part.strip().splitlines()[-1:] for part in said.split(END)[:-1]]
    expected = [[text.strip()] for kind, text in blocks if kind == "json"]
    assert len(expected) == 4
    assert answers == expected


async def shell(script: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=folder, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode()
