"""One training run: a case becomes plain statements, which are executed while a recorder looks on."""
