"""What an adapter or head must keep to that can only be seen of a built one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewshot_i2v.adapters._contract import Adapter
from fewshot_i2v.errors import AdapterError, HeadError

if TYPE_CHECKING:
    from fewshot_i2v.heads._contract import Head


def check_built(module: Adapter | Head, name: str) -> None:
    """Refuses a module whose parameters are not one copy per episode.

    Without the episode axis, episodes that are tuned side by side would change each other.

    Args:
        module: an adapter or head, just built.
        name: on the command line, for messages.

    Raises:
        AdapterError: naming the first parameter (or buffer that is saved) whose first axis is not
            E, and its shape; HeadError for heads.
    """
    kind, error = ("adapter", AdapterError) if isinstance(module, Adapter) else ("head", HeadError)
    if not hasattr(module, "episodes"):
        raise error(f"{kind} {name!r}: its __init__ does not call that of {kind.capitalize()}")
    parameters = dict(module.named_parameters())
    for key, tensor in module.state_dict().items():
        if tensor.shape[:1] == (module.episodes,):
            continue
        what, advice = "parameter", "give it one copy per episode, drawn from `generators`"
        if key not in parameters:
            what, advice = "buffer", "give it one copy per episode, or register it persistent=False"
        raise error(
            f"{kind} {name!r}: the {what} {key} has the shape {tuple(tensor.shape)}; its first "
            f"axis must be that of the episodes, E = {module.episodes}: {advice}"
        )
