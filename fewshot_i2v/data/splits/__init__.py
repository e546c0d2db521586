"""Splits: which classes and clips there are, in files that people write."""
