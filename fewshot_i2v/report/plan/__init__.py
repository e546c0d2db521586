"""How many episodes and clips a question needs."""
