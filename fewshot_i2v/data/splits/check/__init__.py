"""Checks that the clips of a split exist, can be read and differ; can write a reduced split."""
