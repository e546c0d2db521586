"""Engines that run the batches of an evaluation in several processes."""
