"""Small faults put into the source one at a time, to see whether a test notices; see ``check_mutations.py``."""
