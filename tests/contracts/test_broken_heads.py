"""The checks of heads find what is wrong: the example of the guide with one mistake each."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fewshot_i2v import registry
from fewshot_i2v.cli._root import cli
from fewshot_i2v.tuning.contract.head_contract import run_head_contract
from tests.contracts._examples import write_example

EXAMPLE = "heads/closest_frames.py"
RETURN = "return self.options.temperature * (alike @ members) / members.sum(-2, keepdim=True)"
SCORES = RETURN.removeprefix("return ")
SOURCE = '    source = "an example of this package\'s documentation"\n'
INIT = (
    f"{SOURCE}\n"
    "    def __init__(self, options: ClosestFramesOptions, **sizes: object) -> None:\n"
    "        super().__init__(options, **sizes)  # type: ignore[arg-type]\n"
    "        self.scale = torch.nn.Parameter(VALUE)\n"
)
MISTAKES: dict[str, tuple[list[tuple[str, str]], str, str]] = {
    "no_bibtex": (
        [(SOURCE, f'{SOURCE}    citation = "Doe, A Head, 2024"\n')],
        "it says what it is",
        "citation is not BibTeX: expected an entry such as @misc",
    ),
    "unknown_option": (
        [(SOURCE, f'{SOURCE}    option_citations = {{"heat": ""}}\n')],
        "it says what it is",
        "option_citations names heat, no option of it",
    ),
    "transposed": (
        [(RETURN, f"return ({SCORES}).transpose(-1, -2)")],
        "logits have the right shape and type",
        "gives the shape (2, 4, 6)",
    ),
    "double_logits": (
        [(RETURN, f"return ({SCORES}).double()")],
        "logits have the right shape and type",
        "torch.float64",
    ),
    "no_episode_axis": (
        [(SOURCE, INIT.replace("VALUE", "torch.ones(7)"))],
        "every parameter has the episode axis first",
        "scale has the shape (7,)",
    ),
    "expanded_copies": (
        [(SOURCE, INIT.replace("VALUE", "torch.ones(1, 4).expand(self.episodes, -1)"))],
        "copies share no parameters",
        "scale, or two heads, share their memory",
    ),
    "unused_parameter": (
        [(SOURCE, INIT.replace("VALUE", "torch.ones(self.episodes, 4)"))],
        "training reaches every clip and parameter",
        "scale has no gradient",
    ),
    "upside_down": (
        [(RETURN, f"return -({SCORES})")],
        "it tells clear classes apart",
        "does not tell classes apart",
    ),
    "detached_features": (
        [("amax((-2, -1))", "amax((-2, -1)).detach()")],
        "training reaches every clip and parameter",
        "",
    ),
    "across_episodes": (
        [(RETURN, f"return {SCORES} - ({SCORES}).mean(0, keepdim=True)")],
        "episodes do not change each other",
        "beside another episode",
    ),
    "by_position": (
        [(RETURN, f"return {SCORES} + torch.arange(alike.shape[1])[:, None] * members[:, :1]")],
        "the order of clips does not matter",
        "another order of the clips",
    ),
    "not_normalised": (
        [("l2_normalize(query.frames)", "query.frames / query.frames.norm(dim=-1, keepdim=True)")],
        "clips without motion or content give finite logits",
        "not finite",
    ),
    "undeclared": (
        [("compares_with_itself = True", "compares_with_itself = False")],
        "compares_with_itself is as declared",
        "compares_with_itself is False",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_and_said(tmp_path: Path, name: str) -> None:
    changes, promise, words = MISTAKES[name]
    path = write_example(tmp_path, EXAMPLE, f"{name}.py", *changes)
    with registry.plugin_file("heads", path) as head:
        results = {result.promise: result for result in run_head_contract(head, path)}
    assert results[promise].status == "violated", results[promise]
    assert words in results[promise].problem
    assert len(results[promise].advice) > 10


def test_the_command_ends_with_status_1_and_the_example_with_0(tmp_path: Path) -> None:
    broken = write_example(tmp_path, EXAMPLE, "upside.py", *MISTAKES["upside_down"][0])
    sound = write_example(tmp_path, EXAMPLE, "sound.py")
    assert CliRunner().invoke(cli, ["check-head", str(broken)]).exit_code == 1
    done = CliRunner().invoke(cli, ["check-head", str(sound)])
    assert done.exit_code == 0, done.output
    assert "evaluate --head sound" in done.stdout.splitlines()[-1]
