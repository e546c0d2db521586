"""Frozen image encoders: loading through open_clip, and the tower as a sequence of blocks.

`loading.load_encoder` gives an `Encoder`, whose `tower` is a `tower.Tower` (with blocks that
adapters can change) or, for models without them, an `opaque_tower.OpaqueTower`; the encoder
`pixels` is no network and has a `pixel_tower.PixelTower`.
`catalog.list_encoders` lists the names without importing torch.
"""
