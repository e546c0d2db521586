"""Reports made from the records of runs: nothing here computes a prediction or imports torch."""
