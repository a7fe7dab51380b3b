"""The property suite: what pytest runs, by path or with `--pyargs frostproof_properties`."""
