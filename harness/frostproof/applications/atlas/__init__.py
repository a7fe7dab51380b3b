"""The atlas: every way to freeze against every other, for each optimizer and network family."""
