"""What a split hides: duplicates, leakage between recordings, overlap with pre-training."""
