"""The checks of adapters find what is wrong: the example of the guide with one mistake each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fewshot_i2v import registry
from fewshot_i2v.cli._root import cli
from fewshot_i2v.tuning.contract.adapter_contract import run_adapter_contract
from fewshot_i2v.tuning.contract.check import CheckResult
from tests.contracts._examples import write_example

EXAMPLE = "adapters/frame_difference.py"
ZEROS = "nn.Parameter(torch.zeros(shape)) for _ in tower.blocks"
RESULT = "return frozen.forward(torch.addcmul(x, change, gate))"
INIT = "super().__init__(tower, options, frames=frames, seeds=seeds)"
CLASS = "class FrameDifference(Adapter)"
LIST = f"nn.ParameterList({ZEROS})"
AXIS = "every parameter has the episode axis first"
BUILT = "it can be built on an encoder"
BLOCK = "block returns new tokens of the same shape and type"
START = "its start follows from its seed alone"

BREAKS_EARLIER_PROMISES_TOO = (
    "detached",
    "first_block",
    "hidden_state",
    "mixes_episodes",
    "random_block",
)
MISTAKES: dict[str, tuple[list[tuple[str, str]], str, str]] = {
    "no_axis": (
        [("(self.episodes, tower.width)", "(tower.width,)")],
        AXIS,
        "gates.0 has the shape (32,)",
    ),
    "no_base": (
        [(INIT, "nn.Module.__init__(self)")],
        BUILT,
        "AttributeError",
    ),
    "expanded": (
        [("torch.zeros(shape)", "torch.zeros(1, tower.width).expand(shape)")],
        "copies share no parameters",
        "gates.0 share their memory: one tensor is expanded",
    ),
    "shared_by_all": (
        [
            (CLASS, f"_ZEROS = torch.zeros(9, 32)\n\n\n{CLASS}"),
            ("torch.zeros(shape)", "_ZEROS[: self.episodes]"),
        ],
        "copies share no parameters",
        "two adapters share the parameter gates.0",
    ),
    "plain_list": (
        [(LIST, f"[{ZEROS}]")],
        "what is trained is a parameter of the module",
        "gates holds a tensor to be trained that is no parameter",
    ),
    "global_random": (
        [("torch.zeros(shape)", "0.01 * torch.randn(shape)")],
        START,
        "global random state",
    ),
    "ones": (
        [("torch.zeros(shape)", "torch.ones(shape)")],
        "untrained, it is the frozen encoder",
        "although identity_at_init is True: the difference is",
    ),
    "changes_the_encoder": (
        [(RESULT, f"frozen.out_bias.add_(0.01)\n        {RESULT}")],
        "the frozen encoder is not changed",
        "a weight of the frozen encoder has other values",
    ),
    "short": (
        [(RESULT, f"{RESULT}[..., :-1, :]")],
        BLOCK,
        "block 0 returns the shape",
    ),
    "double": ([(RESULT, f"{RESULT}.double()")], BLOCK, "block 0 returns torch.float64"),
    "in_place": (
        [(RESULT, f"x.mul_(1.0 + gate)\n        {RESULT}")],
        BLOCK,
        "block 0 changes the tokens",
    ),
    "detached": (
        [(RESULT, RESULT.replace("gate)", "gate.detach())"))],
        "every parameter of every copy has a gradient",
        "",
    ),
    "mixes_clips": (
        [(RESULT, RESULT.replace("x, change", "x, change.mean(1, keepdim=True)"))],
        "clips do not change each other",
        "depend on the clips beside it",
    ),
    "mixes_episodes": (
        [("self.gates[i], x)", "self.gates[i].mean(0, keepdim=True).expand_as(self.gates[i]), x)")],
        "the loss of an episode trains its copy alone",
        "the loss of episode 0 has a gradient for copies of gates",
    ),
    "random_block": (
        [(RESULT, RESULT.replace("x, change", "x, nn.functional.dropout(change)"))],
        "nothing is random when features are computed",
        "global random state",
    ),
    "order": (
        [('frame_order = "yes"', 'frame_order = "no"')],
        "the order of frames matters as frame_order says",
        'frame_order is "no", and another order of the frames gives other features',
    ),
    "radius": (
        [("return self.options.back if self.options.back < self.frames else 0", "return 0")],
        "a block sees as many frames as temporal_radius says",
        "a block sees further",
    ),
    "first_block": (
        [
            (
                "    def block(",
                "    @property\n    def first_trained_block(self) -> int:\n        return 2\n\n"
                "    def block(",
            )
        ],
        "every parameter of every copy has a gradient",
        "",
    ),
    "hidden_state": (
        [
            ("    @property\n", "    _offset: Tensor\n\n    @property\n"),
            (
                "        shape = (self",
                "        offset = torch.randn(1, generator=self.generators[0])\n"
                '        self.register_buffer("_offset", offset, persistent=False)\n'
                "        shape = (self",
            ),
            (RESULT, RESULT.replace("x, change", "x, change * self._offset")),
        ],
        "a new copy with its state is the same",
        "gives other features",
    ),
    "raises": (
        [(RESULT, f'raise ValueError("not yet")\n        {RESULT}')],
        BLOCK,
        "ValueError: not yet",
    ),
    "no_author": (
        [
            (
                "    identity_at_init",
                '    citation = "@misc{a, title = {A}, year = {1}, url = {u}}"\n'
                "    identity_at_init",
            )
        ],
        "it says what it is",
        "citation: the entry a has no author; the entry a has the year '1'; expected",
    ),
    "wrong_size_stated": (
        [("9,216 for", "9,000 for")],
        "its documentation says how many parameters it has",
        "does not say 9,216 for ViT-B/16",
    ),
}


def _violations_up_to(path: Path, promise: str) -> dict[str, CheckResult]:
    """The violations of the checks up to that of a promise, by promise."""
    violations = {}
    with registry.plugin_file("adapters", path) as name:
        for result in run_adapter_contract(name, path):
            if result.status == "violated":
                violations[result.promise] = result
            if result.promise == promise:
                return violations
    raise AssertionError(f"there is no check of the promise {promise!r}")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_and_said(tmp_path: Path, name: str) -> None:
    changes, promise, words = MISTAKES[name]
    path = write_example(tmp_path, EXAMPLE, f"{name}.py", *changes)
    violations = _violations_up_to(path, promise)
    assert promise in violations
    assert words in violations[promise].problem
    assert len(violations[promise].advice) > 10
    assert next(iter(violations)) == promise or name in BREAKS_EARLIER_PROMISES_TOO


def _check(path: Path) -> tuple[int, list[dict[str, str]]]:
    done = CliRunner().invoke(cli, ["check-adapter", str(path), "--json"])
    return done.exit_code, json.loads(done.stdout)["checks"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (\n", "cannot be imported: SyntaxError"),
        ("import no_such_module_x\n", "line 1: cannot be imported: ModuleNotFoundError"),
        ('"""Nothing."""\n', "expected exactly one subclass of Adapter, found none"),
        (
            "from fewshot_i2v.models.adapters import Adapter\n\n\nclass Mine(Adapter):\n    pass\n",
            "Mine lacks source, identity_at_init, frame_order, block()",
        ),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_violation(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / f"bad_{abs(hash(words))}.py"
    path.write_text(text)
    status, results = _check(path)
    assert status == 1
    assert [result["status"] for result in results] == ["violated"]
    assert words in results[0]["problem"]


def test_an_adapter_without_any_effect_of_the_order_has_one_hint(tmp_path: Path) -> None:
    without_time = (RESULT, RESULT.replace("x, change", "x, x"))
    _, results = _check(write_example(tmp_path, EXAMPLE, "timeless.py", without_time))
    hints = {r["promise"]: r["advice"] for r in results if r["status"] == "violated"}
    assert 'Set frame_order = "no"' in hints["the order of frames matters as frame_order says"]
    assert not any("embedding" in advice for advice in hints.values())


def test_the_command_shows_violations_with_advice_and_how_to_go_on(tmp_path: Path) -> None:
    path = write_example(tmp_path, EXAMPLE, "flat.py", *MISTAKES["no_axis"][0])
    done = CliRunner().invoke(cli, ["check-adapter", str(path)])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"adapter flat, {path}, on tiny random data"
    assert f"VIOLATED  {AXIS}" in lines
    assert any(line.startswith("          -> ") for line in lines)
    assert re.search(r"^3 of 3\d promises hold, 3\d were not checked\.$", done.stdout, re.M)
    assert lines[-1] == f"  fewshot-i2v check-adapter {path}"
    assert all(len(line) <= 80 or str(path) in line for line in lines)


def test_one_of_several_classes_can_be_named(tmp_path: Path) -> None:
    twice = (
        "class FrameDifference(Adapter)",
        "class Other(Adapter):\n    pass\n\n\nclass FrameDifference(Adapter)",
    )
    path = write_example(tmp_path, EXAMPLE, "two_classes.py", twice)
    status, results = _check(path)
    assert status == 1
    assert (
        "expected exactly one subclass of Adapter, found Other, FrameDifference"
        in (results[0]["problem"])
    )
    with registry.plugin_file("adapters", path, "FrameDifference") as name:
        assert registry.load_method("adapters", name).__name__ == "FrameDifference"


def test_what_is_no_file_and_no_name_is_refused() -> None:
    done = CliRunner().invoke(cli, ["check-adapter", "aimm"])
    assert done.exit_code == 2
    assert "aimm: no such file; did you mean 'aim'? expected a Python file" in done.stderr
