"""Fitting a model to labelled clips: what to expect of it, and how it predicts."""
