"""This process kept in order: its devices, its memory, its signals, and what an optimizer changes in it."""
