"""The main job: evaluate rows of adapters and heads over episodes."""
