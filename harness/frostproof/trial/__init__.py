"""The trial: all approaches go through the events of one case in lockstep, and are judged."""
