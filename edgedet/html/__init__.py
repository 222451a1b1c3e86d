"""What every self-contained page shares: the frame, its templates, labels in plots."""
