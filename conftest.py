"""What this repository's own runs need: pytest's tool for testing plugins."""

pytest_plugins = ["pytester"]
