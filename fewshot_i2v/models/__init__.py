"""Encoders, adapters, heads and the files they are saved in."""
