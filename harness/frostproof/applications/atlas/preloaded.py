"""What every process of the atlas imports, once for all of them: torch may warn as it is imported, and nobody needs to hear it."""

from frostproof.process.quiet import quiet

with quiet():
    import frostproof.applications.atlas.explore  # noqa: F401  for the forks to have, and not to use here
