"""Generated clips of moving shapes: the embedded data of the demo and of tests."""
