"""Helpers that know nothing of video: files, YAML, progress, environment."""
