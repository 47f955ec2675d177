"""The command line: flags, terminal output, signals and the supervising process."""
