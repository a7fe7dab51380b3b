"""The command line: one module per command. `--help` and `list invariants` do not import torch."""
