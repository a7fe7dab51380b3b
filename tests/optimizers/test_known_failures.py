"""Known failures of torch are stated for the releases that have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from packaging.specifiers import SpecifierSet
from torch.optim import SGD

from frostproof.optimizers import torch_version
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.known_failures import (
    AUTOGRAD_KNOWN_FAILURES,
    KNOWN_FAILURES,
    Known,
    stated,
)
from frostproof.optimizers.torch_version import torch_is


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forget the release of torch before and after a test, which may set another."""
    torch_is.cache_clear()
    yield monkeypatch
    torch_is.cache_clear()


def pretend(patch: pytest.MonkeyPatch, release: str) -> None:
    patch.setattr(torch_version, "version", lambda name: release)


@pytest.mark.parametrize(
    ("release", "old"),
    [
        ("2.13.1+cpu", True),
        ("2.14.0.dev20260101+cu130", False),
        ("2.14.0a0+git12ab", False),
        ("2.14.0", False),
    ],
)
def test_a_local_build_and_a_nightly_count_as_their_release(
    install: pytest.MonkeyPatch, release: str, old: bool
) -> None:
    pretend(install, release)
    assert torch_is("<2.14") is old
    assert torch_is(">=2.14") is not old


def test_a_failure_is_expected_of_the_releases_that_have_it(install: pytest.MonkeyPatch) -> None:
    entry = {
        "rounding": Known(">=2.7,<2.14", "it is not exact"),
        "expected_failures": {
            "thaw-resumes": Known(">=2.7", "raises"),
            "repeats-itself": Known("<2.14", "draws"),
        },
    }
    pretend(install, "2.13.0")
    assert stated(entry) == {
        "rounding": "it is not exact (torch >=2.7,<2.14)",
        "expected_failures": {
            "thaw-resumes": "raises (torch >=2.7)",
            "repeats-itself": "draws (torch <2.14)",
        },
    }
    torch_is.cache_clear()
    pretend(install, "2.14.0")
    assert stated(entry) == {"expected_failures": {"thaw-resumes": "raises (torch >=2.7)"}}


def test_torch_without_known_failures_has_none_expected(install: pytest.MonkeyPatch) -> None:
    assert any(subject.expected_failures for subject in subjects(SGD))
    torch_is.cache_clear()
    pretend(install, "2.6.0")
    assert not any(subject.expected_failures for subject in subjects(SGD))


def test_every_known_failure_names_releases() -> None:
    entries = [*KNOWN_FAILURES.values(), AUTOGRAD_KNOWN_FAILURES]
    failures = [known for entry in entries for known in entry.get("expected_failures", {}).values()]
    assert failures
    for known in failures:
        assert SpecifierSet(known.releases)
