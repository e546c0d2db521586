"""Tables of results for terminals and files."""
