"""The lockstep trial: all approaches go through the events of one case together, and each event is judged."""
