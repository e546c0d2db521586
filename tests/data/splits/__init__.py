"""Tests of splits and episodes."""
