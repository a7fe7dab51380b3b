"""Imports that all processes of the atlas share. Warnings of torch during its import are hidden."""

from frostproof.process.quiet import quiet

with quiet():
    import frostproof.applications.atlas.explore  # noqa: F401  imported once, for every fork
