"""Models side by side: measured in one interleaved run, as a table, plots and a page."""
