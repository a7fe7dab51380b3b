"""`frostproof atlas`: its files, its output, and one line if something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from frostproof.applications.atlas.record import Atlas, AtlasCell
from frostproof.applications.atlas.summary import atlas_markdown, atlas_totals
from frostproof.doors.command.main import main
from tests.helpers.consumer import PLAIN, run
from tests.helpers.warm import frostproof

OWN = """

class Dies(Plain):
    def step(self, closure=None):
        os._exit(3)
"""


def test_the_command_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(PLAIN + OWN, encoding="utf-8")
    words = frostproof(
        "atlas",
        "mylib:Plain",
        "mylib:Dies",
        "--examples",
        "2",
        "--jobs",
        "2",
        "--family",
        "linear",
        *("--json", "a.json", "--markdown", "a.md", "--html", "a.html", "--cases", "scripts"),
    )
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stderr
    assert "mylib:Plain: {A, A-late," in done.stdout
    atlas = msgspec.json.decode((tmp_path / "a.json").read_bytes(), type=Atlas)
    assert {cell.target for cell in atlas.cells} == {"mylib:Plain"}
    assert [(lost.target, lost.reason) for lost in atlas.lost] == [
        ("mylib:Dies", "its process died with exit code 3")
    ]
    different = [cell for cell in atlas.cells if cell.verdict == "different"]
    assert different
    for cell in different:
        assert cell.reproducer is not None
        assert (tmp_path / cell.reproducer).read_text(encoding="utf-8") == cell.script
    assert json.loads((tmp_path / "a.json").read_bytes())["format"] == "frostproof-atlas"
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert text == atlas_markdown(atlas)
    assert "`mylib:Dies` is not included: its process died with exit code 3" in text
    assert "import torch" not in text
    assert "mylib:Dies: its process died with exit code 3" in done.stdout
    assert "src=" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert done.stdout.splitlines()[-1] == atlas_totals(atlas)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no_such:Thing"], "no_such"),
        (["torch.optim:Addam"], "Did you mean Adam?"),
        (["torch.nn:Linear"], "torch.nn:Linear"),
        (["--family", "convolution"], "'convolution' is not one of 'linear', 'normalized'"),
        (["mylib:Plain", "--family", "recurrent", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["--examples", "0"], "0 is not in the range x>=1"),
        (["--markdown", "no/such/folder/a.md"], "make its folder first"),
        (["--cases", "/dev/null/x"], "name one that can be made"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--cases" in arguments:
        empty = Atlas(
            Any,  # type: ignore[arg-type]
            [],
            [AtlasCell("a:b", "default", "linear", "A", "B", "different", 1, script="x")],
            [],
            0.0,
        )
        monkeypatch.setattr(
            "frostproof.applications.atlas.build.build_atlas", lambda *_, **__: empty
        )
    done = CliRunner().invoke(main, ["atlas", *arguments])
    assert done.exit_code == 2
    assert says in done.output
    assert len(done.output.strip().splitlines()) == 1
