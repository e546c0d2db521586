"""Fine-tuning E episodes side by side."""
