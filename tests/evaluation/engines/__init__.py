"""Tests of the engines that run an evaluation in several processes."""
