"""`frostproof cost` in a user's folder: a table and a recommendation, or one line of error."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from frostproof.applications.costs.explaining import LayerCost
from frostproof.applications.costs.table import (
    LINE_WIDTH,
    MOST_MODULES,
    bytes_text,
    condense_layers,
    number_text,
    share_text,
)
from frostproof.doors.command.main import main
from frostproof.optimizers.torch_version import torch_is
from tests.helpers.consumer import clean

MODELS = """
from collections import OrderedDict

import torch
from torch import nn

CONSTANT = 3
READY = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.backbone = first.append(nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.backbone(x).mean((2, 3)))


def pair():
    return Net(), torch.randn(2, 3, 8, 8)


def partly_frozen():
    model = Net()
    model.backbone.requires_grad_(False)
    return model, (torch.randn(2, 3, 8, 8),)


def batch():
    return pair()[1]


def named():
    return {"x": pair()[1]}


def step(model, batch):
    return model(batch).square().mean()


def silent_step(model, batch):
    model(batch)


def deep():
    third = nn.Linear(4, 4)
    second = nn.Sequential(OrderedDict(third=third, act=nn.Tanh(), linear=nn.Linear(4, 4)))
    first = nn.Sequential(OrderedDict(second=second))
    return nn.Sequential(OrderedDict(first=first, head=nn.Linear(4, 2))), torch.randn(3, 4)


def evaluating():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    model[1].eval()
    return model, torch.randn(3, 2)


def tokens():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    return model, torch.randint(7, (2, 3))


def many():
    blocks = [nn.Sequential(*[nn.Linear(4, 4) for _ in range(6)]) for _ in range(9)]
    return nn.Sequential(*blocks), torch.randn(2, 4)


def raises():
    raise ValueError("no\\nweights")


def leaves():
    raise SystemExit


def nothing():
    return None


def wrong_input():
    return Net(), torch.randn(2, 4, 8, 8)


def no_tensor():
    class Silent(nn.Linear):
        def forward(self, x):
            return "done"
    return Silent(2, 2), torch.randn(2, 2)


def no_parameters():
    return nn.ReLU(), torch.randn(2)


def lazy():
    return nn.LazyLinear(3), torch.randn(2, 2)


def escapes():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("a\\x1b[31m", nn.Linear(2, 2))
            self.add_module("b", nn.Linear(2, 2))
        def forward(self, x):
            for module in self.children():
                x = module(x)
            return x
    return Odd(), torch.randn(2, 2)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, the one that we are in."""
    (tmp_path / "mymodels.py").write_text(MODELS)
    (tmp_path / "broken.py").write_text("raise OSError('no such file')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mymodels", None)


def cost(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(main, ["cost", *arguments])


def test_a_batch_a_dict_and_a_training_step_cost_what_the_plain_call_does(folder: Path) -> None:
    found = []
    for given in (
        ("mymodels:pair",),
        ("mymodels:Net", "--input", "mymodels:batch"),
        ("mymodels:Net", "--input", "mymodels:named"),
        ("mymodels:pair", "--training-step", "mymodels:step"),
    ):
        done = cost(*given, "--freeze", "backbone.*", "--json", "out.json")
        assert done.exit_code == 0, done.output
        results = json.loads((folder / "out.json").read_text())
        spent = {each["way"]: each["costs"] for each in results["ways"]}
        found.append(({way: each and each["backward_flops"] for way, each in spent.items()}, spent))
    plain, as_batch, as_dict, by_step = (flops for flops, _ in found)
    assert plain == as_batch
    assert as_dict == by_step == {**plain, "torch.func": None}
    ways = (each["A: requires_grad=False"] for _, each in (found[0], found[3]))
    saved, saved_by_step = (each["saved_bytes"] for each in ways)
    assert saved_by_step == saved + 2 * 5 * 4, "the step's square keeps the 2 by 5 outputs"


def test_a_long_reason_is_below_the_table(folder: Path) -> None:
    done = cost("mymodels:deep", "--freeze", "first.second.linear")
    lines = done.output.splitlines()
    assert [line for line in lines if line.endswith("needed by [1]")]
    assert "[1] first.second.third.weight" in lines


def test_a_training_step_that_returns_no_loss_is_one_line() -> None:
    given = ("mymodels:pair", "--freeze", "head.*", "--training-step", "mymodels:silent_step")
    done = cost(*given)
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "the training step returns None: let it return the loss" in done.output


def test_what_is_frozen_what_is_computed_and_which_way(folder: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "frostproof",
        "cost",
        "mymodels:pair",
        "--freeze",
        "backbone.*",
        "--json",
        "out.json",
    ]
    done = subprocess.run(
        words, cwd=folder, env=clean(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "mymodels:pair: 6 of 8 parameters are frozen, 268 of 293 numbers"
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["backbone.0"].endswith("nothing: all before it is frozen")
    assert rows["head"].endswith("trains")
    assert rows["Recommended:"].startswith(
        "Recommended: A: requires_grad=False (requires_grad=False on frozen parameters,"
    )
    assert (
        "Note: frozen modules have buffers that a forward pass changes, backbone.1: call"
        in done.stdout
    )
    assert "no_grad prefix: does not apply: the model is not an nn.Sequential" in done.stdout
    assert max(map(len, lines)) <= LINE_WIDTH
    found = json.loads((folder / "out.json").read_text())
    assert (found["format"], found["version"], found["optimizer"]) == (
        "frostproof-costs",
        1,
        "AdamW",
    )
    assert found["trainable"] == ["head.weight", "head.bias"]
    ways = {each["way"]: each["costs"] for each in found["ways"]}
    head = 2 * 2 * 4 * 5
    assert ways[found["recommended"]]["backward_flops"] == head
    assert ways["B: optimizer subset"]["backward_flops"] > 100 * head
    assert ways["no_grad prefix"] is None
    of_everything = found["nothing_frozen"]
    assert of_everything["backward_flops"] == ways["B: optimizer subset"]["backward_flops"]
    assert of_everything["state_bytes"] > ways["B: optimizer subset"]["state_bytes"]
    assert any(line.startswith("(nothing frozen) ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            "mymodels:Net --freeze backbone.0 --freeze backbone.3.bias --input 4,3,8,8",
            "3 of 8 parameters are frozen",
        ),
        ("mymodels:partly_frozen", "6 of 8 parameters are frozen"),
        ("mymodels:partly_frozen --freeze head.bias", "and 2 more are frozen as the model was"),
        ("mymodels:READY --freeze 0 --input 3,2 --optimizer SGD", "with SGD"),
        ("mymodels:evaluating --freeze 0", "eval mode of 1 of the 4 modules"),
        (
            "mymodels:READY --freeze 0 --input 3,2 --optimizer torch.optim:Adagrad",
            "Recommended: A, filtered",
        ),
        ("mymodels:tokens --freeze 1.*", "needed by 0.weight"),
        ("mymodels:many --freeze [0-4].*", "6 modules"),
        ("mymodels:escapes --freeze b", "a?[31m"),
    ],
)
def test_other_ways_to_name_a_model_and_what_is_frozen(arguments: str, says: str) -> None:
    done = cost(*arguments.split())
    assert done.exit_code == 0, done.output
    assert says in done.output
    assert "\x1b" not in done.output
    assert max(map(len, done.output.splitlines())) <= LINE_WIDTH


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("nowhere:net --freeze x", "unknown module 'nowhere'"),
        ("mymodels --freeze x", "malformed model 'mymodels': write module:factory"),
        ("mymodels:pear --freeze x", "Did you mean pair?"),
        (
            "broken:net --freeze x",
            "importing 'broken' for target 'broken:net' raised OSError: no such file",
        ),
        ("mymodels:CONSTANT --freeze x", "'mymodels:CONSTANT' is int, which cannot be called"),
        ("mymodels:raises --freeze x", "'mymodels:raises' raised ValueError: no weights"),
        ("mymodels:leaves --freeze x", "'mymodels:leaves' raised SystemExit"),
        (
            "mymodels:nothing --freeze x",
            "'mymodels:nothing' returned NoneType: return an nn.Module",
        ),
        (
            "mymodels:pair --freeze backbon.*",
            "--freeze 'backbon.*' matches no parameter: there are backbone.0.weight, backbone.0.b",
        ),
        ("mymodels:pair --freeze hed", "Did you mean head?"),
        ("mymodels:pair --freeze *", "all 8 parameters are frozen, so that nothing trains"),
        ("mymodels:pair", "nothing is frozen: give --freeze PATTERN"),
        ("mymodels:Net --freeze head", "no input is known: give its shape, as --input 8,3,32,32"),
        ("mymodels:Net --freeze head --input 8,x", "--input is '8,x': give the sizes"),
        ("mymodels:Net --freeze head --input 8,0", "--input is '8,0': give the sizes"),
        ("mymodels:wrong_input --freeze head", "a training step raised RuntimeError"),
        (
            "mymodels:no_tensor --freeze bias",
            "the model returns str without a floating-point tensor",
        ),
        ("mymodels:no_parameters --freeze x", "the model has no parameters"),
        ("mymodels:lazy --freeze bias", "the model has lazy modules"),
        ("mymodels:pair --freeze head --optimizer AdmaW", "Did you mean AdamW?"),
        ("mymodels:pair --freeze head --optimizer Muon", "--optimizer Muon cannot train this"),
        ("mymodels:pair --freeze head --json no/folder/x.json", "make its folder first"),
        ("", "MODULE:FACTORY"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: str, says: str) -> None:
    done = cost(*arguments.split())
    lines = [line for line in done.output.splitlines() if line.strip()]
    assert done.exit_code == 2
    assert len(lines) == 1, lines
    assert says in lines[0]


ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
BENCHMARK = ROOT / "benchmarks" / "costs.py"


@pytest.mark.skipif(
    not torch_is("==2.13.*"),
    reason="torch versions differ in what they save for backward",
)
def test_the_document_shows_what_is_printed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    (words, output) = re.findall(
        r"^    \$ frostproof cost (.*)\n((?:    .*\n|\n)*)", DOCUMENT, re.MULTILINE
    )[0]
    (folder / "mymodels.py").write_text(source)
    assert cost(*shlex.split(words)).output.strip() == textwrap.dedent(output).strip()
    (table,) = re.findall(r"^(\| trained .*?)\n\n", DOCUMENT, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr("sys.argv", [str(BENCHMARK)])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    assert capsys.readouterr().out.strip() == table.strip()


def layer(path: str, frozen: int = 0, needed_by: str | None = None) -> LayerCost:
    return LayerCost(path, "Linear", 6, frozen, 12, 12, 0, needed_by, False)


def test_many_modules_become_few_rows() -> None:
    layers = [
        layer(f"{block}.{number}", 6 if block < 5 else 0)
        for block in range(10)
        for number in range(10)
    ]
    assert condense_layers(layers[:MOST_MODULES], MOST_MODULES) == layers[:MOST_MODULES]
    rows = condense_layers(layers, MOST_MODULES)
    assert [row.path for row in rows] == [str(block) for block in range(10)]
    assert sum(row.weights for row in rows) == sum(each.weights for each in layers)
    assert {row.kind for row in rows} == {"10 modules"}
    assert [row.why for row in rows] == ["nothing: all before it is frozen"] * 5 + ["trains"] * 5
    flat = [layer(str(number)) for number in range(MOST_MODULES + 5)]
    assert len(condense_layers(flat, MOST_MODULES)) == MOST_MODULES + 5


def test_numbers_have_three_digits() -> None:
    assert [number_text(n) for n in (0, 7, 999, 1000, 12_345, 999_499, 999_600, 1_230_000)] == [
        "0", "7", "999", "1.00 k", "12.3 k", "999 k", "1.00 M", "1.23 M"
    ]  # fmt: skip
    assert [bytes_text(n) for n in (0, 512, 1024, 20_700, 5 << 30)] == [
        "0 B",
        "512 B",
        "1.00 KiB",
        "20.2 KiB",
        "5.00 GiB",
    ]
    assert [share_text(part, 1000) for part in (0, 3, 120, 1000)] == ["0%", "<1%", "12%", "100%"]
