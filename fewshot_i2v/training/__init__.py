"""Starting points: training on base classes, and meta-training."""
