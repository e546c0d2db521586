"""Frozen image encoders: loading through open_clip, and the tower as a walk over its blocks.

`clip.load_encoder` gives an `Encoder`, whose `tower` is a `tower.Tower` (blocks that adapters can
walk) or, for models without such blocks, a `plain.PlainTower`. `catalog.list_encoders` lists the
names without importing torch.
"""
