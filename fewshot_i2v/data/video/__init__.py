"""Video: which frames of a clip, reading them exactly, and keeping them decoded on disk."""
