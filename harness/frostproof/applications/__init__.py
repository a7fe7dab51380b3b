"""Commands built on the harness: the forum claims, the atlas of ways to freeze, and their costs."""
