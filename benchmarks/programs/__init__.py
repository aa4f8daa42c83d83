"""Programs that serve the benchmark's application with servers that have no command line for it."""
