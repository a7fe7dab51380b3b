"""The pytest plugin: options, the suite, workers, and the process that gathers their results."""
