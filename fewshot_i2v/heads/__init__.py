"""Heads: from features of support and query clips to class scores; one file each."""
