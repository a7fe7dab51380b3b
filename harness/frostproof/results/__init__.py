"""Results as data: the rows of a run, their files, and what changed since an earlier run."""
