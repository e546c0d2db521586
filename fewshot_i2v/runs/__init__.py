"""Run folders: records of episodes, the header, locking, and the summary of a row."""
