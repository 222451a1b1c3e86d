"""DAMO-YOLO's structure as data, and the modules built from it."""
