"""The ways in: the Python functions, the pytest plugin and the command."""
