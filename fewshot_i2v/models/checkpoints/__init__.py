"""Adapters on disk: saving, loading, merging, and starting points."""
