"""The table of adapters: what they cost, and how near they are to official code.

Costs are counted for ViT-B/16 and clips of 8 frames. Differences are measured against golden
outputs, which are read from the shared material; it is found as the tests find it. The table lies
in fewshot_i2v/models/README.md between `<!-- adapter-table -->` and `<!-- /adapter-table -->`.

    python scripts/adapter_table.py            # writes the guide
    python scripts/adapter_table.py --check    # fails where it says anything else
    python scripts/adapter_table.py --stdout   # prints the table
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from fewshot_i2v import registry  # noqa: E402 - the checkout's own, and its tests
from fewshot_i2v.cli.list import format_giga  # noqa: E402
from fewshot_i2v.models.cost import Cost, CostRow, compare_costs  # noqa: E402
from fewshot_i2v.models.encoders.loading import meta_tower  # noqa: E402
from tests.conftest import shared_folder  # noqa: E402
from tests.models.golden_parity import Parity, parity  # noqa: E402

ENCODER, FRAMES = "ViT-B-16", 8
GUIDE = ROOT / "fewshot_i2v" / "models" / "README.md"
START, END = "<!-- adapter-table -->", "<!-- /adapter-table -->"
NONE = "-"
COSTS = (
    "adapter",
    "order of frames matters",
    "other frames seen",
    "parameters",
    "GMACs/frame",
    "merged parameters",
    "merged GMACs",
)
DIFFERENCES = ("tokens", "features", "gradients")
# A figure is written as a bound this many times larger or more: rounding differs by machine.
MARGIN = 3.0
LEGEND = f"""\
ViT-B/16 at 224 pixels, clips of {FRAMES} frames. Parameters: trained in an episode, without head.
GMACs: 10^9 multiply-accumulates of the whole encoder. Presets that cost the same as a row above are
left out. The last three columns: largest difference from outputs of the official implementation on
tiny random weights in float32 (see `tests/golden/README.md`), absolute, and for gradients relative
to the norm of the tensor; {NONE} where there is nothing to compare with."""

Bounds = Mapping[str, tuple[float | None, ...]]


class TableError(click.ClickException):
    """Why the table cannot be made or is not the right one; exit status 1."""


def rows() -> list[CostRow]:
    """The adapters of the package, and their presets that cost something else."""
    folder = Path(registry.__file__).parent / "models" / "adapters"
    own = {f.name for f in registry.list_methods("adapters") if Path(f.origin).parent == folder}
    kept: dict[tuple[object, ...], CostRow] = {}
    for row in compare_costs(meta_tower(ENCODER), frames=FRAMES, presets=True):
        if row.adapter in own and row.cost is not None:
            cost = row.cost
            key = (row.adapter, cost.parameters, cost.macs_per_frame, cost.order, cost.reach)
            kept.setdefault(key, row)
    return list(kept.values())


def measured(shared: Path) -> dict[str, tuple[float | None, ...]]:
    """Largest differences of each adapter over all golden cases, by its name."""
    files = sorted((shared / "golden").glob("*.safetensors"))
    found = [parity(path) for path in files if not path.name.startswith("matching")]
    cases: dict[str, list[Parity]] = {}
    for case in filter(None, found):
        cases.setdefault(case.adapter.replace("_", "-"), []).append(case)
    return {
        name: (
            _largest(c.tokens for c in several),
            _largest(c.feature for c in several),
            _largest(c.gradients for c in several),
        )
        for name, several in cases.items()
    }


def _largest(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)


def bound(value: float | None) -> str:
    """A power of ten that the value stays well below, such as "< 1e-5"."""
    if value is None:
        return NONE
    return f"< 1e{math.ceil(math.log10(max(MARGIN * value, 1e-12)))}"


def cost_cells(row: CostRow, cost: Cost) -> list[str]:
    """The cells of a row up to the differences."""
    note = f" ({cost.note})" if cost.note else ""
    return [
        f"`{row.label}`{note}",
        cost.order_in_words,
        cost.neighbours,
        f"{cost.parameters:,}",
        format_giga(cost.macs_per_frame),
        NONE if cost.parameters_merged is None else f"{cost.parameters_merged:,}",
        format_giga(cost.macs_per_frame_merged),
    ]


def lines(found: Sequence[CostRow], differences: Bounds) -> list[str]:
    """The table in Markdown, and what it means."""
    nothing = (None,) * len(DIFFERENCES)
    body = [
        [*cost_cells(row, row.cost), *map(bound, differences.get(row.adapter, nothing))]
        for row in found
        if row.cost is not None
    ]
    rule = ["---", "---", "---", *["---:"] * (len(COSTS) + len(DIFFERENCES) - 3)]
    cells = [[*COSTS, *DIFFERENCES], rule, *body]
    return [*(f"| {' | '.join(row)} |" for row in cells), "", *LEGEND.splitlines()]


def between(guide: Path) -> tuple[str, list[str], str]:
    """What is before the table, its lines, and what is behind it.

    Raises:
        TableError: when the two markers are not there.
    """
    text = guide.read_text(encoding="utf-8")
    found = re.fullmatch(
        rf"(.*{re.escape(START)}\n)(.*?)({re.escape(END)}.*)", text, flags=re.DOTALL
    )
    if found is None:
        raise TableError(f"{guide}: expected the lines {START} and {END}")
    before, table, after = found.groups()
    return before, table.splitlines(), after


def check(guide: Path, found: Sequence[CostRow], differences: Bounds | None) -> None:
    """Compares the table in a file with the code.

    Args:
        guide: the file.
        found: the rows that it should have.
        differences: as measured; None: those of the file are taken as they are.

    Raises:
        TableError: naming the first line that differs.
    """
    _, there, _ = between(guide)
    fresh = lines(found, {})
    for is_line, should in zip([*there, *[""] * len(fresh)], fresh, strict=False):
        if _without_bounds(is_line) != _without_bounds(should):
            raise TableError(
                f"{guide}: the table of adapters is old; run scripts/adapter_table.py\n"
                f"  is:     {is_line}\n  should: {should}"
            )
    if len(there) != len(fresh):
        raise TableError(f"{guide}: {len(there)} lines of table and legend, not {len(fresh)}")
    for row, line in zip(found, there[2:], strict=False):
        _check_bounds(guide, row.label, line, (differences or {}).get(row.adapter))


def _check_bounds(
    guide: Path, label: str, line: str, seen: tuple[float | None, ...] | None
) -> None:
    if seen is None:
        return
    for what, cell, value in zip(DIFFERENCES, _cells(line)[len(COSTS) :], seen, strict=True):
        written = float(cell.removeprefix("< ")) if cell.startswith("< ") else None
        if (written is None) is not (value is None) or (value or 0.0) > (written or 0.0):
            raise TableError(
                f"{guide}: {label} has {cell} for {what}; measured: {value}. Where the adapter is "
                "right, run scripts/adapter_table.py"
            )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _without_bounds(line: str) -> list[str]:
    return _cells(line)[: len(COSTS)] if line.startswith("| `") else [line]


@click.command()
@click.option("--check", "checking", is_flag=True, help="Compare; write nothing.")
@click.option("--stdout", is_flag=True, help="Print the table; write nothing.")
@click.option(
    "--file",
    "guide",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=GUIDE,
    help="The file to write or compare.",
)
def main(checking: bool, stdout: bool, guide: Path) -> None:
    """Write the table of adapters into the guide to models."""
    shared = shared_folder()
    differences = None if shared is None else measured(shared)
    if checking:
        check(guide, rows(), differences)
        return
    if differences is None:
        raise TableError(
            "the shared material with the golden outputs is absent; set FEWSHOT_I2V_SHARED to its "
            "folder"
        )
    text = "\n".join(lines(rows(), differences)) + "\n"
    if stdout:
        click.echo(text, nl=False)
        return
    before, _, after = between(guide)
    guide.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
