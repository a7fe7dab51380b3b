"""The HTML report: one file that loads no other."""
