"""The release of torch that is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from packaging.specifiers import SpecifierSet
from packaging.version import Version


@cache
def torch_is(versions: str) -> bool:
    """Whether the installed torch is one of `versions`, such as ">=2.9" or ">=2.7,<2.14".

    A nightly build counts as the release that it leads to.
    """
    return Version(Version(version("torch")).base_version) in SpecifierSet(versions)
