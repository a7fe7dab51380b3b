"""Results as data: the rows of a run, their files, and the comparison with an earlier run."""
