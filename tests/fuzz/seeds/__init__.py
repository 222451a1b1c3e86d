"""Files to change, made by the project itself: the same ones each time."""
