"""``python -m edgedet`` is the command line."""

from edgedet.cli import main

main()
