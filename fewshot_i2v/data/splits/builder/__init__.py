"""New splits from folders, tables and annotation files."""
