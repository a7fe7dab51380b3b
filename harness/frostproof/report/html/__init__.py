"""The HTML report: one file that holds all that it shows, and loads nothing."""
