"""Fuzzing: files that the project makes, changed in small ways, read in child processes with limits."""
