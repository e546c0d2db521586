"""The script of a SLURM array whose jobs are the shards of an evaluation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """\
#!/bin/bash
# {count} jobs, a shard each. Submit it with sbatch; submit it again to continue what is missing.
# Add what your cluster needs, such as --partition, --account, --time and --gres=gpu:1.
#SBATCH --job-name={name}
#SBATCH --array=1-{count}
#SBATCH --output={name}-%A-%a.log
#SBATCH --requeue

cd {folder}
# exec: the signal of a preemption reaches the command itself, which ends at once; what is done is
# recorded
exec {command} --shard auto
"""


def slurm_script(command: Sequence[str], *, count: int, name: str, folder: Path) -> str:
    """Writes the script.

    `command` are the words of the evaluation, without a shard; `folder` is to run in.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return _SCRIPT.format(
        count=count, name=name, folder=shlex.quote(str(folder)), command=shlex.join(command)
    )
