"""Checks of an installation: what an evaluation needs, what is there, and what to do if not.

torch is imported by the checks that are about it, so that a broken one is a finding like others.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from fewshot_i2v import registry
from fewshot_i2v.data.cache_folder import list_cache
from fewshot_i2v.data.synthetic.generate import class_names, encode, render_clip
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.errors import FewshotError, UsageError
from fewshot_i2v.utils import environment
from fewshot_i2v.utils.environment import count_cores
from fewshot_i2v.utils.resources import PACKAGE_FOLDER
from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import join_names

CheckStatus = Literal["ok", "note", "problem"]
_DISTRIBUTION = "fewshot-i2v"
_INSTALL_AGAIN = "python -m pip install --force-reinstall"
_LOW_SPACE = 1_000_000_000
_LEARN2LEARN_INSTALL = "scripts/install_learn2learn.sh python, in a clone of the repository"


@dataclass(frozen=True)
class HealthCheck:
    """The result of one check.

    Attributes:
        name: what was checked, one or two words.
        status: "ok"; "note": something optional is missing or broken; "problem": an evaluation
            with default settings cannot run.
        fact: what is there, or what is wrong.
        advice: what to do next; "" where nothing is to be done.
        values: the facts in plain types, for JSON.
    """

    name: str
    status: CheckStatus
    fact: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def run_checks(cache: Path) -> Iterator[HealthCheck]:
    """Check everything that an evaluation needs, and what is optional.

    A check that fails for an unforeseen reason is a problem as well.
    """
    checks: dict[str, Callable[[], HealthCheck]] = {
        "python": _check_python,
        "packages": _check_packages,
        "torch": _check_torch,
        "devices": _check_devices,
        "video": _check_readers,
        "decoding": _check_decoding,
        "encoder": _check_encoder,
        "weights": _check_weights,
        "cache": lambda: _check_cache(cache),
        "plug-ins": _check_plugins,
        "optional": _check_optional,
    }
    for name, check in checks.items():
        try:
            yield check()
        except ImportError as error:
            module = (error.name or "").partition(".")[0]
            advice = f"{_INSTALL_AGAIN} {module}" if module else f"{_INSTALL_AGAIN} {name}"
            yield HealthCheck(name, "problem", f"cannot be imported: {error}", advice)
        except Exception as error:  # noqa: BLE001 - broken packages raise anything
            fact = f"{type(error).__name__}: {error}"
            fact = str(error) if isinstance(error, FewshotError) else fact
            yield HealthCheck(name, "problem", fact, "mend that, then check again")


def _check_python() -> HealthCheck:
    number = ".".join(map(str, sys.version_info[:3]))
    values = {"version": number, "executable": sys.executable, "package": str(PACKAGE_FOLDER)}
    return HealthCheck("python", "ok", f"{number}, {sys.executable}", values=values)


def _check_packages() -> HealthCheck:
    """Compare the packages that are required with those that are installed."""
    try:
        requirements = [Requirement(line) for line in requires(_DISTRIBUTION) or ()]
    except PackageNotFoundError:
        fact = f"{PACKAGE_FOLDER} is used without being installed: requirements are not known"
        advice = f"python -m pip install -e {PACKAGE_FOLDER.parent}"
        return HealthCheck("packages", "note", fact, advice)
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    versions = {requirement.name: _version(requirement.name) for requirement in needed}
    unmet = [
        requirement
        for requirement in needed
        if not requirement.specifier.contains(versions[requirement.name] or "", prereleases=True)
    ]
    values = {"required": len(needed), "versions": versions, "unmet": list(map(str, unmet))}
    if unmet:
        facts = [
            f"{r.name} {versions[r.name] or 'is not installed'}, expected {r.specifier}"
            for r in unmet
        ]
        words = " ".join(f"'{r.name}{r.specifier}'" for r in unmet)
        advice = f"python -m pip install {words}"
        return HealthCheck("packages", "problem", "; ".join(facts), advice, values)
    fact = f"the {len(needed)} required ones are installed, in versions that fit"
    return HealthCheck("packages", "ok", fact, values=values)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_torch() -> HealthCheck:
    import torch

    built_for = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
    values = {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }
    fact = f"{torch.__version__}, {built_for}, {torch.get_num_threads()} threads"
    return HealthCheck("torch", "ok", fact, values=values)


def _check_devices() -> HealthCheck:
    """List the devices, and say where a GPU is there that torch cannot use."""
    import torch

    gpus: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gpus.append({"name": properties.name, "memory": int(properties.total_memory)})
    cores = count_cores()
    auto = "cuda" if gpus else "cpu"
    has_products = environment.has_bfloat16_products(torch.device(auto))
    precision = "mixed" if has_products else "fp32"
    values = {"cpu_cores": cores, "gpus": gpus, "auto": auto, "precision": precision}
    names = [f"cuda:{i} {gpu['name']}, {format_size(gpu['memory'])}" for i, gpu in enumerate(gpus)]
    fact = "; ".join([*names, f"cpu, {cores} cores"]) + f"; auto is {auto}"
    # what `resolve_precision` does, and `emulation_note` says
    fact += f"; precision auto is {precision}" + ("" if has_products else ", bf16 is emulated")
    if gpus or shutil.which("nvidia-smi") is None:
        return HealthCheck("devices", "ok", fact, values=values)
    fact += "; a driver for NVIDIA GPUs is installed, and torch sees no GPU"
    advice = "see `nvidia-smi`, CUDA_VISIBLE_DEVICES, and pytorch.org for a build for its CUDA"
    if torch.version.cuda is None:
        advice = "install torch for CUDA, as pytorch.org says"
    return HealthCheck("devices", "note", fact, advice, values)


def _check_readers() -> HealthCheck:
    import av

    libraries = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    ffmpeg = getattr(av, "ffmpeg_version_info", None)
    label = f"FFmpeg {ffmpeg}" if ffmpeg else f"libavcodec {libraries['libavcodec']}"
    decord = _version("decord")
    values = {
        "used": "pyav",
        "pyav": av.__version__,
        "ffmpeg": ffmpeg,
        "libraries": libraries,
        "decord": decord,
    }
    other = f"decord {decord} for video.backend=decord" if decord else "decord is absent (optional)"
    fact = f"PyAV {av.__version__} with {label} reads clips; {other}"
    return HealthCheck("video", "ok", fact, values=values)


def _check_decoding() -> HealthCheck:
    """Generate a clip, and read it as an evaluation does: in a process, through a cache."""
    options, start = DecodeOptions(frames=8, size=64), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fewshot-i2v-doctor-") as folder:
        path = Path(folder) / "clip.mp4"
        path.write_bytes(encode(render_clip("motions", class_names("motions")[0], 0), 8))
        cache = ClipCache(Path(folder) / "clips", options, workers=1)
        for error in cache.prepare([path]).values():
            advice = f"{_INSTALL_AGAIN} av"
            return HealthCheck("decoding", "problem", f"a generated clip: {error.reason}", advice)
        shape = cache.get(path).shape
    seconds = time.perf_counter() - start
    fact = f"a generated clip was decoded to {shape[0]} frames of {shape[1]} pixels"
    return HealthCheck("decoding", "ok", fact, values={"seconds": round(seconds, 3)})


def _check_encoder() -> HealthCheck:
    """Load the shipped encoder, and encode a frame on the device that runs use by default."""
    import torch

    from fewshot_i2v.models.encoders.loading import load_encoder
    from fewshot_i2v.tuning.run_context import resolve_device

    encoder = load_encoder("demo", device=resolve_device("auto"))
    size = encoder.tower.image_size
    with torch.no_grad():
        frames = torch.zeros((1, size, size, 3), dtype=torch.uint8)
        tokens = encoder.tower.encode(encoder.tower.normalize(frames))
    values = {"name": "demo", "digest": encoder.digest}
    if not bool(tokens.isfinite().all()):
        fact = "the shipped encoder demo gives values that are not finite on this machine"
        return HealthCheck("encoder", "problem", fact, f"{_INSTALL_AGAIN} torch", values)
    fact = f"demo, which is shipped, encodes on {encoder.tower.device}; for generated clips"
    return HealthCheck("encoder", "ok", fact, values=values)


def _check_weights() -> HealthCheck:
    """List the weights for real videos that need no network."""
    from fewshot_i2v.models.encoders.offline_weights import find_offline_weights, weights_folder

    files = find_offline_weights()
    values: dict[str, Any] = {
        "folder": str(weights_folder()),
        "files": [{"path": str(f.path), "size": f.size, "names": list(f.names)} for f in files],
    }
    if files:
        labels = [f"{f.names[0][0]} {f.names[0][1]} ({format_size(f.size)})" for f in files]
        fact = f"without a network: {join_names(labels)}; in {weights_folder()}"
        return HealthCheck("weights", "ok", fact, values=values)
    fact = f"none for real videos yet in {weights_folder()}"
    advice = "--encoder ViT-B-16 --pretrained openai fetches them once; a file: TAG@FILE"
    return HealthCheck("weights", "note", fact, advice, values)


def _check_cache(folder: Path) -> HealthCheck:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        files = list_cache(folder)
        with tempfile.NamedTemporaryFile(prefix=".fewshot-i2v-doctor-", dir=existing):
            pass
    except OSError as error:
        fact = f"{folder} cannot be used: {error.filename or existing}: {error.strerror}"
        advice = "choose another folder: --cache FOLDER, or export FEWSHOT_I2V_HOME=FOLDER"
        return HealthCheck("cache", "problem", fact, advice, {"folder": str(folder)})
    free, size = shutil.disk_usage(existing).free, sum(file.size for file in files)
    values = {"folder": str(folder), "files": len(files), "size": size, "free": free}
    fact = f"{folder}: {format_size(size)} in {len(files):,} files, {format_size(free)} free"
    if free < _LOW_SPACE:
        advice = "`fewshot-i2v cache clear` removes it; --cache-limit bounds it"
        return HealthCheck("cache", "note", fact, advice, values)
    return HealthCheck("cache", "ok", fact, values=values)


def _check_plugins() -> HealthCheck:
    """Import the adapters and heads from outside the package."""
    kinds: tuple[registry.MethodKind, ...] = ("adapters", "heads")
    try:
        methods = [(kind, info) for kind in kinds for info in registry.list_methods(kind)]
    except UsageError as error:  # no command that reads adapters would run
        advice = "mend the variable FEWSHOT_I2V_PLUGINS, or unset it"
        return HealthCheck("plug-ins", "problem", str(error), advice)
    outside = [m for m in methods if not Path(m[1].origin).is_relative_to(PACKAGE_FOLDER)]
    entries = [
        {"kind": kind, "name": info.name, "origin": info.origin, "problem": problem or None}
        for kind, info in outside
        for problem in [" ".join(registry.find_problem(kind, info).split())]
    ]
    values = {"methods": entries}
    broken = [entry for entry in entries if entry["problem"]]
    if broken:
        fact = f"{len(broken)} of {len(entries)} are broken: {broken[0]['problem']}"
        kind = str(broken[0]["kind"])[:-1]
        advice = f"fewshot-i2v check-{kind} {broken[0]['origin']}"
        return HealthCheck("plug-ins", "note", fact, advice, values)
    names = join_names([str(entry["name"]) for entry in entries])
    fact = f"{names} can be loaded" if entries else "none (FEWSHOT_I2V_PLUGINS names folders)"
    return HealthCheck("plug-ins", "ok", fact, values=values)


def _check_optional() -> HealthCheck:
    """Look for what single features and tests need."""
    learn2learn, selenium = _version("learn2learn"), _version("selenium")
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    git = shutil.which("git")
    values = {"learn2learn": learn2learn, "selenium": selenium, "browser": browser, "git": git}
    has_learn2learn = learn2learn is not None and find_spec("learn2learn") is not None
    fact = f"learn2learn {learn2learn if has_learn2learn else 'is absent'}"
    fact += f"; browser tests {'can run' if selenium and browser else 'cannot run'}"
    if has_learn2learn:
        return HealthCheck("optional", "ok", fact, values=values)
    advice = f"for the objectives maml, meta-sgd and anil: {_LEARN2LEARN_INSTALL}"
    return HealthCheck("optional", "note", fact, advice, values)
