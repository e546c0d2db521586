"""Episodes: sampled from splits, or read from files."""
