"""Which file on disk is which clip of a published list."""
