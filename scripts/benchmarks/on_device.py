"""All that is to be seen on a GPU, by one command within minutes: the most important first.

    python scripts/benchmarks/on_device.py --out FOLDER
    python scripts/benchmarks/on_device.py --device cpu --quick --out FOLDER

Stages, each a process of its own: a smoke run of every adapter and head, a training and a fitted
model; the tests marked `gpu`; tuned episodes against the plain loop (ST-Adapter and AIM in bf16,
1, 4 and 16 side by side; the loop in float32, TF32 and bf16); a profile of both; base training;
frozen episodes; ST-Adapter with compiled blocks. A stage that fails or takes too long does not stop
the next one. FOLDER gets a JSON file of each stage, written while it runs, so that a cut-off loses
nothing; `log.txt` with what they print; and `summary.json`, written before and after each stage,
which says what became of them. Figures of a device are only those that name it. With --quick every
stage does little: it shows that the script runs. Ends with status 1 where a stage did not end well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import IO, Any
from xml.etree import ElementTree

import click
from _about import COMMIT_VARIABLE, about, default_device, write_report
from _device_plan import TRIMMED

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
MODULES = (
    *("torch", "open_clip", "av", "numpy", "scipy", "sklearn", "PIL", "einops", "pydantic", "yaml"),
    *("safetensors", "tqdm", "platformdirs", "pytest", "hypothesis", "xdist"),
)
"""What the stages import; a machine that is lent may have none of it."""
LEAST_SECONDS = 10
"""A stage is not begun with less time left."""
_TAIL = 25


@dataclass(frozen=True)
class Stage:
    """A stage of the run.

    Attributes:
        name: of the stage, and of its JSON file.
        limit: seconds that it may take.
        program: beside this file; None: the tests.
        reads_clips: whether it shares decoded clips with others.
    """

    name: str
    limit: float
    program: str | None
    reads_clips: bool = False


STAGES = (
    Stage("smoke", 150, "smoke.py"),
    Stage("tests", 120, None),
    Stage("tuning", 240, "bench_tuning.py", reads_clips=True),
    Stage("profile", 120, "profile_step.py", reads_clips=True),
    Stage("train", 100, "bench_train.py", reads_clips=True),
    Stage("frozen", 120, "bench_frozen.py"),
    Stage("compiled", 150, "bench_tuning.py", reads_clips=True),
)


def gpu_test_files() -> list[str]:
    """List the files with tests marked `gpu`: collecting all tests would take half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [file for file in files if "pytest.mark.gpu" in file.read_text(encoding="utf-8")]
    return [file.relative_to(ROOT).as_posix() for file in marked]


def command_of(stage: Stage, device: str, quick: bool, out: Path, work: Path) -> list[str]:
    """Make the command of a stage, which writes its JSON file, or the XML of the tests."""
    if stage.program is None:
        options = ["-v", "-n", "0", "-m", "gpu", "-p", "no:cacheprovider", "--color=no"]
        report = f"--junitxml={work / 'tests.xml'}"
        return [sys.executable, "-m", "pytest", *options, report, *gpu_test_files()]
    command = [
        sys.executable,
        str(FOLDER / stage.program),
        "--json",
        str(out / f"{stage.name}.json"),
    ]
    command += ["--quick"] if quick else TRIMMED.get(stage.name, [])
    if quick and stage.name == "compiled":
        command += ["--compiled"]
    command += ["--device", device] if stage.name != "frozen" else ["--work", str(work / "frozen")]
    return command + (["--cache", str(work / "cache")] if stage.reads_clips else [])


def test_results(report: Path) -> dict[str, Any]:
    """Read what became of the tests from the XML of pytest."""
    if not report.exists():
        return {"error": "pytest wrote no report; see log.txt"}
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - just written by pytest
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else None
        outcome = outcome or ("skipped" if "skipped" in tags else "passed")
        outcomes[outcome].append(f"{case.get('classname')}::{case.get('name')}")
    counts = {outcome: len(names) for outcome, names in outcomes.items()}
    return {**counts, "failures": outcomes["failed"]}


def run_within(command: Sequence[str], seconds: float, log: IO[str]) -> int | None:
    """Run a command with all that it starts; None: it took longer, and was ended."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search, "PYTHONUNBUFFERED": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:  # also when this process is interrupted
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_stage(
    stage: Stage, left: float, device: str, *, quick: bool, out: Path, work: Path
) -> dict[str, Any]:
    """Run a stage within its limit and the time left; return what became of it."""
    limit = min(stage.limit, left)
    if limit < LEAST_SECONDS:
        return {"status": "not run", "error": [f"{left:.0f} s were left; raise --minutes"]}
    start, log = perf_counter(), out / "log.txt"
    command = command_of(stage, device, quick, out, work)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"== {stage.name}: {' '.join(command)}\n")
        file.flush()
        begin = file.tell()
        status = run_within(command, limit, file)
    row: dict[str, Any] = {"seconds": round(perf_counter() - start, 1), "limit": round(limit)}
    if stage.program is None:
        results = test_results(work / "tests.xml")
        write_report(out / "tests.json", results)
        row |= results
    if status == 0 and not (device != "cpu" and row.get("skipped")):
        return {"status": "ok", **row}
    with log.open("rb") as written:
        written.seek(begin)
        tail = written.read().decode("utf-8", "replace").splitlines()[-_TAIL:]
    ended = "out of time" if status is None else "failed"
    return {"status": ended, "exit_status": status, **row, "error": tail}


def run_stages(
    names: Sequence[str], device: str, minutes: float, *, quick: bool, out: Path, facts: object
) -> list[dict[str, Any]]:
    """Run the named stages in their order, and write the summary before and after each."""
    end, rows = perf_counter() + 60 * minutes, list[dict[str, Any]]()
    chosen = [stage for stage in STAGES if stage.name in names]
    with TemporaryDirectory() as work:
        for i, stage in enumerate(chosen):
            waiting = [{"stage": other.name, "status": "not begun"} for other in chosen[i + 1 :]]
            running = {"stage": stage.name, "status": "running"}
            write_report(
                out / "summary.json", {"about": facts, "stages": [*rows, running, *waiting]}
            )
            left = end - perf_counter()
            row = run_stage(stage, left, device, quick=quick, out=out, work=Path(work))
            rows.append({"stage": stage.name, **row})
            click.echo(f"{stage.name:<9}{row['status']:<12}{row.get('seconds', '')}")
            if row["status"] != "ok":
                click.echo("\n".join(f"    {line}" for line in row["error"]))
            write_report(out / "summary.json", {"about": facts, "stages": [*rows, *waiting]})
    return rows


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--device", help="cuda, cuda:N, or cpu to try the script; the GPU by default.")
@click.option("--minutes", type=click.FloatRange(min=0.2), default=9.0, show_default=True)
@click.option(
    "--stage",
    "names",
    multiple=True,
    type=click.Choice([stage.name for stage in STAGES]),
    default=tuple(stage.name for stage in STAGES),
    help="By default all.",
)
@click.option("--quick", is_flag=True, help="Every stage does little.")
@click.option("--commit", help="Of this checkout, where it has no .git.")
def main(
    out: Path,
    device: str | None,
    minutes: float,
    names: tuple[str, ...],
    quick: bool,
    commit: str | None,
) -> None:
    """Run the stages; the module's docstring is its help."""
    if missing := [name for name in MODULES if find_spec(name) is None]:
        raise click.ClickException(f"not installed: {', '.join(missing)}; install the extra dev")
    import torch

    target = torch.device(device) if device else default_device()
    if target.type == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(f"--device {target}: PyTorch {torch.__version__} sees no GPU")
    if target.type == "cpu" and not (device and quick):
        raise click.ClickException("no GPU; expected --device cpu --quick, which tries the script")
    if commit:
        os.environ[COMMIT_VARIABLE] = commit
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    facts = about(target) | {"quick": quick, "minutes": minutes}
    rows = run_stages(names, str(target), minutes, quick=quick, out=out, facts=facts)
    if bad := [row["stage"] for row in rows if row["status"] != "ok"]:
        raise click.ClickException(f"did not end well: {', '.join(bad)}; see {out}/summary.json")


if __name__ == "__main__":
    main()
