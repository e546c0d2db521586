"""The complete files of CONTRIBUTING.md, as they are and with a mistake in them."""

from __future__ import annotations

import re
from pathlib import Path

_GUIDE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
_FILE = re.compile(r"<!-- (\w+/\w+\.py) -->\n```python\n(.*?)```", re.DOTALL)
EXAMPLES = dict(_FILE.findall(_GUIDE.read_text(encoding="utf-8")))


def write_example(folder: Path, name: str, new_name: str, *changes: tuple[str, str]) -> Path:
    """Writes an example with some texts replaced.

    Args:
        folder: of the file.
        name: of the example, such as "adapters/frame_difference.py".
        new_name: of the file.
        changes: each text, which must be there, and what stands in its place.
    """
    text = EXAMPLES[name]
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / new_name
    path.write_text(text, encoding="utf-8")
    return path
