"""Take a trained PyTorch object detector to a CPU at the edge."""
