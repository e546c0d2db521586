"""Paired comparison of rows."""
