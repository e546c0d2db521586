"""Splits, episodes, video and generated clips."""
