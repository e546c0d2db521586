"""The script of a SLURM array runs one shard in each job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from click.testing import CliRunner

from fewshot_i2v.cli._root import cli


def test_the_script_is_valid_and_runs_the_command_of_a_shard(tmp_path: Path) -> None:
    words = ["evaluate", "--engine=slurm", "--processes", "8", "--steps", "2", "-o", "my runs/a b"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "#SBATCH --array=1-8\n" in result.stdout
    assert "#SBATCH --job-name=a-b\n" in result.stdout
    script = tmp_path / "array.sh"
    script.write_text(result.stdout)
    program = tmp_path / "fewshot-i2v"  # says how it was called
    program.write_text('#!/bin/sh\nprintf "%s|" "$PWD" "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    output = subprocess.run(
        ["bash", str(script)], check=True, capture_output=True, text=True, env=environment
    ).stdout
    expected = [str(Path.cwd()), "evaluate", "--steps", "2", "-o", "my runs/a b", "--shard", "auto"]
    assert output.split("|")[:-1] == expected
