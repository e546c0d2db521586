"""Image-to-video adapters: one file each, found by its name."""
