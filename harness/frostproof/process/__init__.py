"""The running process: its devices, memory, signals and output, and tasks in other processes."""
