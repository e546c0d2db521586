"""The loop that fine-tuning is compared with: what one would write with open_clip and `torch.nn`.

One episode at a time: new layers on open_clip's own image tower, AdamW, the whole tower in every
step, `nn.Linear` and `nn.Conv3d`. Nothing is cached and nothing of `fewshot_i2v` is used.
`tests/scripts/test_plain_loop.py` holds that each method computes what the adapter of that name
does.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

QUERY_CLIPS_AT_ONCE = 5


class PlainBlock(nn.Module):
    """A block as it is; its frozen weights are those of the open_clip block, not copies."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.frozen = [block]  # in a list, so that its weights are not parameters of this module

    def attend(self, x: Tensor) -> Tensor:
        """Apply the block's attention, without norm and residual."""
        attended: Tensor = self.frozen[0].attention(x)
        return attended

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Compute the block on tokens (clips * frames, N + 1, D)."""
        computed: Tensor = self.frozen[0](x)
        return computed


class PlainBottleneck(nn.Module):
    """Two linear layers with an activation between, the second one zero at first."""

    def __init__(self, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = activation
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both layers, without a residual."""
        branch: Tensor = self.up(self.activation(self.down(x)))
        return branch


class STAdapterBlock(PlainBlock):
    """ST-Adapter before the MLP: `nn.Conv3d` of 3 x 1 x 1, one filter a channel."""

    def __init__(self, block: ResidualAttentionBlock, width: int) -> None:
        super().__init__(block)
        hidden = min(width // 2, 384)
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.conv = nn.Conv3d(hidden, hidden, (3, 1, 1), padding=(1, 0, 0), groups=hidden)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Compute the block with the adapter on the patch tokens."""
        block = self.frozen[0]
        x = x + self.attend(block.ln_1(x))
        side = int((x.shape[1] - 1) ** 0.5)
        u = self.down(x[:, 1:])
        u = rearrange(u, "(b t) (h w) c -> b c t h w", t=frames, h=side)
        u = rearrange(self.conv(u), "b c t h w -> (b t) (h w) c")
        x = torch.cat([x[:, :1], x[:, 1:] + self.up(u)], 1)
        y: Tensor = x + block.mlp(block.ln_2(x))
        return y


class AIMBlock(PlainBlock):
    """AIM with one temporal adapter."""

    def __init__(self, block: ResidualAttentionBlock, width: int) -> None:
        super().__init__(block)
        self.temporal, self.spatial, self.joint = (
            PlainBottleneck(width, width // 4, nn.GELU()) for _ in range(3)
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Compute the block with attention over frames first."""
        block, tokens = self.frozen[0], x.shape[1]
        over_time = rearrange(block.ln_1(x), "(b t) n d -> (b n) t d", t=frames)
        over_time = self.temporal(self.attend(over_time))
        x = x + rearrange(over_time, "(b n) t d -> (b t) n d", n=tokens)
        attended = self.attend(block.ln_1(x))
        x = x + attended + self.spatial(attended)
        u = block.ln_2(x)
        y: Tensor = x + block.mlp(u) + 0.5 * self.joint(u)
        return y


class ZeroI2VBlock(PlainBlock):
    """ZeroI2V with the offsets -1 and 1 of the first two heads."""

    def __init__(self, block: ResidualAttentionBlock, width: int) -> None:
        super().__init__(block)
        self.attn_in, self.attn_out, self.mlp_in, self.mlp_out = (
            PlainBottleneck(width, width // 4, nn.Identity()) for _ in range(4)
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Compute the block with shifted keys and values."""
        block = self.frozen[0]
        u = block.ln_1(x)
        u = self._attend_shifted(u + 0.5 * self.attn_in(u), frames)
        x = x + u + 0.5 * self.attn_out(u)
        u = block.ln_2(x)
        u = block.mlp(u + 0.5 * self.mlp_in(u))
        y: Tensor = x + u + 0.5 * self.mlp_out(u)
        return y

    def _attend_shifted(self, u: Tensor, frames: int) -> Tensor:
        attention = self.frozen[0].attn
        qkv = functional.linear(u, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = rearrange(
            qkv, "(b t) n (s h d) -> s b t h n d", t=frames, s=3, h=attention.num_heads
        ).unbind()
        attended = functional.scaled_dot_product_attention(
            q.flatten(0, 1), _shifted(k).flatten(0, 1), _shifted(v).flatten(0, 1)
        )
        y: Tensor = attention.out_proj(rearrange(attended, "b h n d -> b n (h d)"))
        return y


def _shifted(x: Tensor) -> Tensor:
    """Shift the first head a frame back and the second one ahead, (b, t, heads, n, d)."""
    back = torch.cat([x[:, :1, :1], x[:, :-1, :1]], 1)
    ahead = torch.cat([x[:, 1:, 1:2], x[:, -1:, 1:2]], 1)
    return torch.cat([back, ahead, x[:, :, 2:]], 2)


class AdaptFormerBlock(PlainBlock):
    """AdaptFormer: a bottleneck of 64 beside the MLP."""

    def __init__(self, block: ResidualAttentionBlock, width: int) -> None:
        super().__init__(block)
        self.parallel = PlainBottleneck(width, 64, nn.ReLU())

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Compute the block with the adapter beside the MLP."""
        block = self.frozen[0]
        x = x + self.attend(block.ln_1(x))
        y: Tensor = x + block.mlp(block.ln_2(x)) + 0.1 * self.parallel(x)
        return y


BLOCKS: dict[str, Any] = {
    "st-adapter": STAdapterBlock,
    "aim": AIMBlock,
    "zeroi2v": ZeroI2VBlock,
    "adaptformer": AdaptFormerBlock,
    "frozen": None,
}
"""Methods of the plain loop; None: nothing of the tower is trained, and no new layer is added."""


class PlainVideoEncoder(nn.Module):
    """An open_clip tower with a method's layers; the clip feature is a mean over frames.

    Args:
        visual: the tower, whose weights are frozen.
        method: a name of `BLOCKS`.
        frames: of a clip.
        mean: of pixels in [0, 1], 3 values.
        std: likewise.
    """

    def __init__(
        self, visual: VisionTransformer, method: str, frames: int, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        width = visual.positional_embedding.shape[1]
        self.frozen = [visual.requires_grad_(False)]
        self.method, self.frames = method, frames
        self.mean, self.std = mean.view(3, 1, 1), std.view(3, 1, 1)
        make = BLOCKS[method]
        blocks = visual.transformer.resblocks
        self.blocks = nn.ModuleList(
            PlainBlock(b) if make is None else make(b, width) for b in blocks
        )
        self.temporal: nn.Parameter | None = None
        self.ln_post: Any = [visual.ln_post]
        if method in ("aim", "zeroi2v"):
            self.temporal = nn.Parameter(torch.zeros(1, frames, 1, width))
            self.ln_post = nn.LayerNorm(width, eps=visual.ln_post.eps)
            self.ln_post.load_state_dict(visual.ln_post.state_dict())

    def forward(self, clips: Tensor) -> Tensor:
        """Compute clip features (clips, D) of bytes (clips, T, H, W, 3)."""
        visual = self.frozen[0]
        pixels = clips.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        x = visual.conv1((pixels - self.mean.to(pixels)) / self.std.to(pixels)).flatten(2).mT
        class_token = visual.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([class_token, x], 1) + visual.positional_embedding
        if self.temporal is not None:
            x = (x.unflatten(0, (-1, self.frames)) + self.temporal).flatten(0, 1)
        x = visual.ln_pre(x)
        for block in self.blocks:
            x = block(x, self.frames)
        summary = x[:, 0].unflatten(0, (-1, self.frames))
        norm = self.ln_post if isinstance(self.ln_post, nn.Module) else self.ln_post[0]
        # ST-Adapter is published so: the mean comes before the norm
        mean_first = self.method == "st-adapter"
        pooled: Tensor = norm(summary.mean(1)) if mean_first else norm(summary).mean(1)
        return pooled


def tune_and_predict(
    encoder: PlainVideoEncoder,
    *,
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    steps: int,
    autocast: bool = False,
) -> Tensor:
    """Fine-tune on the support clips of an episode and compute logits of its query clips.

    Args:
        encoder: fresh, on the device of the clips.
        support: (S, T, H, W, 3) uint8.
        labels: class of each support clip, (S,) int64.
        query: (Q, T, H, W, 3) uint8.
        steps: of AdamW on all support clips.
        autocast: compute in bfloat16 where autocast says so.

    Returns:
        (Q, way), float32, on the CPU.
    """
    device = labels.device
    width = encoder.frozen[0].positional_embedding.shape[1]
    head = nn.Linear(width, int(labels.max()) + 1).to(device)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.001, weight_decay=0.01)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        for _ in range(steps):
            loss = functional.cross_entropy(head(encoder(support)), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            logits = [head(encoder(chunk)) for chunk in torch.split(query, QUERY_CLIPS_AT_ONCE)]
    return torch.cat(logits).float().cpu()
