"""The property suite: what pytest runs, by path or with `--pyargs frostproof_properties`."""

from frostproof.process.quiet import quiet

with quiet():  # before a module of facts would import it, under pytest's filters of warnings
    import torch  # noqa: F401
