"""Exact video reading: frame sampling, decoding, and a cache of decoded clips on disk."""
