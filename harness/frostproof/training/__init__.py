"""One training: a case becomes plain statements, which are executed and observed."""
