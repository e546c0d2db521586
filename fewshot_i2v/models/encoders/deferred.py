"""Encoders whose weights are loaded when somebody computes with them, and not before.

A frozen row on seen clips reads features from the cache, and of its encoder no more than its
digest, its sizes, the last layer norm and the projection into the space shared with text. These are
recorded once for each file of weights. Then neither the weights are read into a model nor open_clip
is imported, which takes longer than the row.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import weights
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.loading import (
    RANDOM_WEIGHTS,
    Encoder,
    load_encoder,
    tag_weights_file,
)
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.utils.files import replace_file
from fewshot_i2v.utils.input_files import open_regular, read_regular
from fewshot_i2v.utils.resources import ENCODERS_FOLDER
from fewshot_i2v.version import __version__

_RECORD_VERSION = "3"
_MAX_RECORD_BYTES = 1 << 26
_META = torch.device("meta")
_LOADING = RLock()


class TowerSizes(BaseModel):
    """Sizes and settings of a tower, from which one without values is built.

    Attributes:
        image_size: pixels on a side of the input.
        patch: pixels on a side of a patch.
        tokens: tokens of a frame.
        width: channels D of a token.
        layers: transformer blocks.
        heads: attention heads of a block.
        hidden: channels inside of an MLP.
        activation: of the MLPs.
        pool: "tok" or "avg".
        eps: of the last layer norm.
        norm_pre: whether there is a layer norm before the first block.
        joint_width: channels of the space shared with text; None: there is no projection.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int
    patch: int
    tokens: int
    width: int
    layers: int
    heads: int
    hidden: int
    activation: str
    pool: str
    eps: float
    norm_pre: bool
    joint_width: int | None

    @classmethod
    def of(cls, tower: Tower) -> TowerSizes:
        """Returns the sizes of a tower with blocks."""
        projection, block = tower.projection, tower.blocks[0]
        return cls(
            image_size=tower.image_size,
            patch=tower.patch,
            tokens=tower.tokens,
            width=tower.width,
            layers=tower.layers,
            heads=tower.heads,
            hidden=block.fc_weight.shape[0],
            activation=block.activation,
            pool=tower.pool,
            eps=tower.norm_post.eps,
            norm_pre=tower.norm_pre is not None,
            joint_width=None if projection is None else projection.shape[1],
        )

    def meta_tower(self) -> Tower:
        """Builds a tower of these sizes on PyTorch's meta device."""
        d, hidden = self.width, self.hidden

        def _empty(*shape: int) -> Tensor:
            return torch.empty(shape, device=_META)

        def _norm() -> LayerNorm:
            return LayerNorm(_empty(d), _empty(d), self.eps)

        block = FrozenBlock(
            heads=self.heads,
            norm_1=_norm(),
            qkv_weight=_empty(3 * d, d),
            qkv_bias=_empty(3 * d),
            out_weight=_empty(d, d),
            out_bias=_empty(d),
            norm_2=_norm(),
            fc_weight=_empty(hidden, d),
            fc_bias=_empty(hidden),
            proj_weight=_empty(d, hidden),
            proj_bias=_empty(d),
            activation=self.activation,
        )
        return Tower(
            image_size=self.image_size,
            patch_weight=_empty(d, 3, self.patch, self.patch),
            class_token=_empty(d),
            positions=_empty(self.tokens, d),
            norm_pre=_norm() if self.norm_pre else None,
            blocks=(block,) * self.layers,
            norm_post=_norm(),
            pool=self.pool,
            projection=None if self.joint_width is None else _empty(d, self.joint_width),
            mean=_empty(3),
            std=_empty(3),
        )


class _EncoderFacts(BaseModel):
    """What is recorded of an encoder, beside the values of a few tensors.

    Of weights that a tag of open_clip names, this includes the file that open_clip has of them, and
    its sha256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    pretrained: str
    has_text_tower: bool
    parameters: int
    tower: TowerSizes
    tag_file: str = ""
    tag_file_digest: str = ""

    @property
    def is_current(self) -> bool:
        """Whether the file of a tag is what it was; other files are in the key of the record."""
        return not self.tag_file or _file_digest(self.tag_file) == self.tag_file_digest


class DeferredTower(Tower):
    """A tower that loads its weights when one of them is read.

    Everything else about it, its pixel constants and what follows its last block are there from the
    start.

    Args:
        sizes: of the tower.
        values: see `values_beside_blocks`.
        load: loads the tower, in its type and on its device.
        device: of the tower.
        dtype: of the tower.
    """

    _sizes: TowerSizes
    _load: Callable[[], Tower]
    _device: torch.device
    _dtype: torch.dtype

    def __init__(
        self,
        sizes: TowerSizes,
        values: Mapping[str, Tensor],
        load: Callable[[], Tower],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        on_device = {name: value.to(device) for name, value in values.items()}
        norm = LayerNorm(on_device["weight"], on_device["bias"], sizes.eps)
        vars(self).update(
            image_size=sizes.image_size,
            pool=sizes.pool,
            mean=on_device["mean"],
            std=on_device["std"],
            norm_post=norm,
            projection=on_device.get("projection"),
            _sizes=sizes,
            _load=load,
            _device=device,
            _dtype=dtype,
        )

    # a changed copy, as `dataclasses.replace` makes it, is an ordinary tower
    __class__ = property(lambda _: Tower)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any field of a tower
        if name.startswith("_") or name not in Tower.__dataclass_fields__:
            raise AttributeError(name)
        with _LOADING:  # a thread may build adapters meanwhile
            if not self.is_loaded:
                vars(self).update(vars(self._load()))
        return vars(self)[name]

    @property
    def sizes(self) -> TowerSizes:
        """Sizes and settings of the tower."""
        return self._sizes

    @property
    def is_loaded(self) -> bool:
        """Whether the weights were loaded."""
        return "blocks" in vars(self)

    @property
    def width(self) -> int:
        """Channels D of a token, and of the features."""
        return self._sizes.width

    @property
    def heads(self) -> int:
        """Attention heads of each block."""
        return self._sizes.heads

    @property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return self._sizes.layers

    @property
    def patch(self) -> int:
        """Pixels on a side of a patch."""
        return self._sizes.patch

    @property
    def tokens(self) -> int:
        """Tokens of a frame, class token included."""
        return self._sizes.tokens

    @property
    def joint_width(self) -> int:
        """Channels of the space that it shares with text; 0: it has no projection into one."""
        return self._sizes.joint_width or 0

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights and of the tokens."""
        return self._dtype

    def to(  # type: ignore[override]
        self, device: torch.device | str, dtype: torch.dtype
    ) -> Tower:
        """Return a copy on a device in a floating type; on the meta device nothing is loaded."""
        if torch.device(device).type == "meta":
            return self._sizes.meta_tower().to(device, dtype)
        _ = self.blocks
        fields = {name: vars(self)[name] for name in Tower.__dataclass_fields__}
        return Tower(**fields).to(device, dtype)


def values_beside_blocks(tower: Tower) -> dict[str, Tensor]:
    """Returns what a `DeferredTower` has before its weights are loaded, in float32.

    Pixel constants `mean` and `std`, `weight` and `bias` of the last layer norm, and `projection`
    where the tower has one.
    """
    norm = tower.norm_post
    values = {"mean": tower.mean, "std": tower.std, "weight": norm.weight, "bias": norm.bias}
    return values if tower.projection is None else {**values, "projection": tower.projection}


def open_encoder(cache: Path, source: Mapping[str, Any], **placement: Any) -> Encoder:
    """Opens an encoder, without its weights if an earlier run has recorded the rest of it.

    Only weights in files have a record: local ones, and those that open_clip has of a tag.
    Everything that `load_encoder` reads of them, and the versions of the code that does, decide
    which record is theirs.

    Args:
        cache: the cache folder.
        source: arguments of `load_encoder` that name the encoder.
        placement: its `device` and `dtype`.

    Raises:
        UsageError: as `load_encoder`.
    """
    key = _record_key(source)
    if key is None:
        return load_encoder(**source, **placement)
    path = cache / ENCODERS_FOLDER / f"{key}.safetensors"
    record = _read_record(path)
    if record is None or not record[0].is_current:
        encoder = load_encoder(**source, **placement)
        # weights that were replaced since must not get the name of the earlier ones
        if type(encoder.tower) is Tower and _record_key(source) == key:
            file_of_tag = _file_of_tag(source)
            if file_of_tag is not None:
                _write_record(path, encoder, file_of_tag)
        return encoder
    facts, values = record

    def _load() -> Tower:
        loaded = load_encoder(**source, **placement)
        if loaded.digest != facts.digest:
            raise EncoderError(
                f"{source['pretrained']}: changed while it was in use, from digest "
                f"{facts.digest[:16]} to {loaded.digest[:16]}; run again"
            )
        return loaded.tower

    tower = DeferredTower(
        facts.tower,
        values,
        _load,
        device=torch.device(placement["device"]),
        dtype=placement["dtype"],
    )
    recorded = facts.model_dump(exclude={"tower", "tag_file", "tag_file_digest"})
    return Encoder(**recorded, tower=tower)


def _record_key(source: Mapping[str, Any]) -> str | None:
    """Returns what the record is named by; None for encoders that have none."""
    pretrained, architecture = source["pretrained"], source["architecture"]
    if pretrained is None or pretrained == RANDOM_WEIGHTS:
        return None
    file = parse_pretrained(str(pretrained))[1]
    digests = [_file_digest(path) for path in filter(None, (file, architecture))]
    if None in digests:
        return None  # loading it says what is wrong
    code = [_RECORD_VERSION, __version__, version("open_clip_torch"), str(torch.__version__)]
    named = {name: str(value) for name, value in source.items()}
    return hashlib.sha256(json.dumps([code, digests, named]).encode()).hexdigest()


def _file_digest(path: str | Path) -> str | None:
    """Returns the sha256 of a file; None where it cannot be read."""
    try:
        with open_regular(path) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def _file_of_tag(source: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns path and sha256 of the file of a tag's weights, which were loaded; empty for others.

    None where that file is not known.
    """
    tag, file = parse_pretrained(str(source["pretrained"]))
    if file is not None:
        return "", ""
    try:
        tag_file = tag_weights_file(source["name"], str(tag))
    except (OSError, RuntimeError, ValueError):  # open_clip may ask the network again
        return None
    digest = _file_digest(tag_file)
    return None if digest is None else (str(tag_file), digest)


def _write_record(path: Path, encoder: Encoder, file_of_tag: tuple[str, str]) -> None:
    """Records an encoder; where that fails, the next run loads it again."""
    tower, own = encoder.tower, {"tower", "tag_file", "tag_file_digest"}
    facts = _EncoderFacts(
        tower=TowerSizes.of(tower),
        **{name: getattr(encoder, name) for name in _EncoderFacts.model_fields.keys() - own},
        tag_file=file_of_tag[0],
        tag_file_digest=file_of_tag[1],
    ).model_dump_json()
    values = {
        name: value.detach().cpu().contiguous()
        for name, value in values_beside_blocks(tower).items()
    }
    checksum = weights.tensor_digest(values, {"facts": facts})
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, safetensors.save(values, {"facts": facts, "sha256": checksum}))


def _read_record(path: Path) -> tuple[_EncoderFacts, dict[str, Tensor]] | None:
    """Reads a record; None where there is none, or a byte of it is not what was written."""
    try:
        content = read_regular(path, _MAX_RECORD_BYTES)
        values = safetensors.load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        facts = metadata["facts"]
        if weights.tensor_digest(values, {"facts": facts}) != metadata["sha256"]:
            return None
        return _EncoderFacts.model_validate_json(facts), values
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ValidationError):
        return None
