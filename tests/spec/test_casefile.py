"""Case files are read again and replayed; hostile or broken ones get one line, and run no code."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from frostproof.doors.command.main import main
from frostproof.errors import CaseError, FrostproofError
from frostproof.generation.cases import cases
from frostproof.generation.networks import MENUS
from frostproof.optimizers.targets import resolve
from frostproof.report.network_code import network_code
from frostproof.report.network_drawing import ViolationPlace, draw_network
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.casefile import LARGEST, CaseFile, load_case, save
from frostproof.spec.layers import Embedding
from frostproof.verification.replay import replay
from tests.helpers.models import batch
from tests.helpers.mutation import CODE, spoiled_bytes, spoiled_values

OLD = Path(__file__).parent / "cases" / "version-1.json"
DATA = OLD.read_bytes()
DOCUMENT = json.loads(DATA)
ADAM = resolve(["torch.optim:Adam"])[0]
FIELDS: dict[str, Any] = {
    "target": "torch.optim:SGD",
    "variant": "forloop",
    "device": "cpu",
    "invariant": "frozen-weights-unchanged",
    "message": "moved at event 0 (Step()): 0.weight[0]: 1 -> 2",
}
QUIET = settings(max_examples=150, database=None)

load_case(OLD)  # the first decoding of a type reads its annotations, which are code of ours
watching = False
executed: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and event in (
        "exec",
        "compile",
        "import",
        "os.system",
        "subprocess.Popen",
        "pickle.find_class",
        "marshal.loads",
    ):
        executed.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextmanager
def nothing_executed() -> Iterator[None]:
    global watching
    executed.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert not executed


def loaded(data: bytes, path: Path) -> CaseFile | None:
    """The file with this content; None where it was refused, in one line."""
    path.write_bytes(data)
    said = ""
    with nothing_executed():
        try:
            return load_case(path)
        except CaseError as error:
            said = str(error)
    assert said.isprintable()
    assert len(said) <= 400
    return None


def frostproof(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases") / "case.json"


@QUIET
@given(case=cases(ADAM))
def test_what_was_saved_is_loaded(case: Any, file: Path) -> None:
    found = CaseFile(**FIELDS, case=case, event=1, parameters=(0, 2))
    path, script = save(file.parent, found)
    assert script is None
    assert load_case(path) == msgspec.structs.replace(found, frostproof=version("frostproof"))


@QUIET
@given(data=spoiled_values(DOCUMENT) | spoiled_bytes(DATA) | st.binary(max_size=200))
def test_a_spoiled_file_is_refused_in_one_line_or_is_a_case(data: bytes, file: Path) -> None:
    found = loaded(data, file)
    if found is not None:
        assert draw_network(found.case, ViolationPlace()).boxes
        assert network_code(found.case.architecture, found.case.initially_frozen)


@settings(max_examples=25, database=None)
@given(data=spoiled_values(DOCUMENT))
def test_a_spoiled_case_that_can_be_run_is_run_or_refused(data: bytes, file: Path) -> None:
    found = loaded(data, file)
    if found is not None:
        said: str = ""
        try:
            said = replay(found).outcome
        except FrostproofError as error:
            said = str(error)
        assert "\n" not in said


LAYERS = st.sampled_from(sorted({layer for menu in MENUS.values() for layer in menu}, key=repr))


@QUIET
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    vocabulary=st.sampled_from((0, 0, 0, 5)),
    layers=st.lists(LAYERS | st.just(Embedding(5, 4)), min_size=1, max_size=4),
)
def test_layers_at_random_are_refused_in_one_line_or_can_be_built(
    shape: list[int], vocabulary: int, layers: list[Any]
) -> None:
    architecture = Architecture(Input(tuple(shape), vocabulary), tuple(layers))
    fault = ""
    try:
        architecture.check()
    except CaseError as error:
        fault = str(error)
    assert "\n" not in fault
    if not fault:
        samples, targets = batch(architecture)
        assert architecture.build("cpu", "float32")(samples).shape == targets.shape


def changed(**fields: Any) -> bytes:
    return json.dumps(DOCUMENT | fields).encode()


def with_case(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(DATA)
    change(document["case"])
    return json.dumps(document).encode()


def wide(case: dict[str, Any]) -> None:
    layer = {"kind": "Linear", "out_features": 4096}
    case["architecture"]["layers"] = [layer] * 200


def deep(case: dict[str, Any]) -> None:
    layer: dict[str, Any] = {"kind": "Tanh"}
    for _ in range(100):
        layer = {"kind": "Sequential", "layers": [layer]}
    case["architecture"]["layers"].append(layer)


def broad(case: dict[str, Any]) -> None:
    case["architecture"]["layers"] += [{"kind": "Tanh"}] * 1000


def long(case: dict[str, Any]) -> None:
    case["program"] *= 1000


def heavy(case: dict[str, Any]) -> None:
    case["architecture"]["input"]["shape"] = [4096] * 7 + [2]


def attending(case: dict[str, Any]) -> None:
    case["architecture"] = {"input": {"shape": [4096, 1]}, "layers": [{"kind": "SelfAttention"}]}
    case["groups"][0]["parameters"] = [
        "0.in_proj_weight",
        "0.in_proj_bias",
        "0.out_proj.weight",
        "0.out_proj.bias",
    ]
    case["mask"], case["batch"] = [], 64


def endless(case: dict[str, Any]) -> None:
    case["groups"][0]["options"].append(["max_iter", 10**12])


def overriding(case: dict[str, Any]) -> None:
    case["groups"][0]["options"].append(["params", 1])


HOPELESS = {
    "empty": (b"", "not a case file"),
    "not JSON": (b"{", "not a case file"),
    "a list": (b"[]", "not a case file"),
    "deep": (b"[" * 100_000, "not a case file"),
    "not text": (b'{"format": "\xff"}', "not a case file"),
    "results": (b'{"format": "frostproof-results", "version": 1}', "its format is"),
    "cut short": (DATA[: len(DATA) // 2], "not a case file"),
    "numbers as strings": (re.sub(rb": (\d+)", rb': "\1"', DATA), "not a case file"),
    "absurd sizes": (re.sub(rb": \d+", b": 999999999999", DATA), "upgrade it"),
    "a later version": (changed(version=2), "upgrade it"),
    "a version that never existed": (changed(version=0), "never existed"),
    "an unknown field": (changed(**{"x\x1b[31m\ny": 1}), "unknown field `x?[31m y`"),
    "code": (changed(case=CODE), "Expected `object`"),
    "too many weights": (with_case(wide), "at most 1,000,000"),
    "too deep": (with_case(deep), "nested at most 16 deep"),
    "too many layers": (with_case(broad), "at most 256 layers"),
    "too many events": (with_case(long), "at most 256"),
    "too much to compute": (with_case(heavy), "multiplications"),
    "attention over too much": (with_case(attending), "multiplications"),
    "an endless loop": (with_case(endless), "at most 1,000,000"),
    "another list of parameters": (with_case(overriding), "'params' cannot name"),
    "100 MB": (b" " * (LARGEST + 1) + DATA, "larger than 1 MiB"),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_a_hopeless_file_gets_one_line_and_exit_code_2(name: str, file: Path) -> None:
    content, says = HOPELESS[name]
    file.write_bytes(content)
    code, output = frostproof("replay", file)
    assert code == 2
    assert says in output
    assert len(output.splitlines()) == 1


def test_what_is_no_file_gets_one_line(tmp_path: Path) -> None:
    for path in (
        tmp_path,
        tmp_path / "none.json",
        tmp_path / "nul\0.json",
        tmp_path / ("x" * 5000),
    ):
        with pytest.raises(CaseError, match="name a case file"):
            load_case(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CaseError, match="name a case file"):
            load_case(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"target": "tests.helpers.planted:*"}, "belongs to one optimizer"),
        ({"target": "tests.helpers.planted:DecaysEverythng"}, "Did you mean DecaysEverything?"),
        ({"target": "nowhere:Lion"}, "unknown module"),
        ({"target": ".planted:Lion"}, "for target"),
        ({"target": "os:system"}, "takes no hyperparameter"),
        ({"target": "sys:exit"}, "takes no hyperparameter"),
        ({"target": "torch.fx:replace_pattern"}, "needs pattern"),
        ({"variant": "fused"}, "has no implementation 'fused': it has default"),
        ({"device": "cuda:77"}, "absent"),
        ({"device": "quantum"}, "absent"),
        ({"device": "cpu:1"}, "absent"),
        ({"invariant": "no-such"}, "is not an invariant"),
        ({"device": "meta"}, "absent"),
    ],
)
def test_a_case_of_something_that_is_not_here_gets_one_line(
    fields: dict[str, str], says: str, file: Path
) -> None:
    file.write_bytes(changed(**fields))
    code, output = frostproof("replay", file)
    assert (code, len(output.splitlines())) == (2, 1)
    assert says in output


def test_a_case_of_the_first_version_still_replays(tmp_path: Path) -> None:
    code, output = frostproof("replay", OLD)
    assert code == 1
    assert output.startswith("STILL VIOLATED")
    assert "0.weight[2]: -0.581980765 -> " in output


def test_replay_tells_what_is_fixed_from_what_is_not(tmp_path: Path) -> None:
    names = {"bad": "DecaysEverything", "good": "Sound", "broken": "Broken"}
    for name, target in names.items():
        (tmp_path / name).write_bytes(
            changed(
                target=f"tests.helpers.planted:{target}"
                if name != "broken"
                else "tests.spec.test_casefile:Broken"
            )
        )
    good, bad, broken = tmp_path / "good", tmp_path / "bad", tmp_path / "broken"
    assert frostproof("replay", good)[0] == 0
    assert frostproof("replay", good)[1].startswith("FIXED")
    assert frostproof("replay", good, broken)[0] == 5
    assert "NOT JUDGED" in frostproof("replay", broken)[1]
    assert "always raises" in frostproof("replay", broken)[1]
    code, output = frostproof("replay", good, tmp_path / "none", broken, bad)
    assert code == 1
    assert [line.partition(" ")[0] for line in output.splitlines() if not line.startswith(" ")] == [
        "FIXED",
        "frostproof:",
        "NOT",
        "STILL",
    ]


def test_what_breaks_another_invariant_instead_is_not_fixed() -> None:
    found = msgspec.structs.replace(load_case(OLD), invariant="closure-is-honoured")
    verdict = replay(found)
    assert verdict.outcome == "STILL VIOLATED"
    assert verdict.text.startswith("closure-is-honoured holds now, and the case breaks another")
    assert ": frozen-weights-unchanged: " in verdict.text


def Broken(params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> Any:  # noqa: N802
    raise ValueError("always raises")


def test_long_names_of_optimizers_make_names_of_files(tmp_path: Path) -> None:
    one, other = (
        msgspec.structs.replace(load_case(OLD), target=f"library:{'é' * length}")
        for length in (400, 401)
    )
    assert save(tmp_path, one) != save(tmp_path, other)
    assert len(list(tmp_path.iterdir())) == 2
