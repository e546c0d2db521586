"""`predict` on streams while they run, and the page of what happens when."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import av
import pytest
from click.testing import CliRunner, Result

from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.cli import _segments
from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.video import live
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.evaluation.prediction import Prediction
from fewshot_i2v.evaluation.segments import Segment
from tests.data.video.rtsp import rtsp_stream
from tests.data.video.streams import http_stream
from tests.evaluation.fitting.conftest import Material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def model(material: Material) -> Path:
    path = material.folder / "shapes.safetensors"
    fit(material.train, path, reject=0, folds=2, **material.keys(head="prototype"))
    return path


@pytest.fixture(scope="module")
def video(material: Material) -> Path:
    """The test clips one after the other, as a stream sends them."""
    path = material.folder / "long.ts"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.options = {"qscale": "2"}
        for clip in sorted(material.test.rglob("*.mp4")):
            with av.open(str(clip)) as container:
                for frame in container.decode(video=0):
                    picture = frame.to_ndarray(format="rgb24")
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def _run(material: Material, *arguments: object) -> Result:
    cache = ("--cache", material.folder / "cache", "--workers", 1)
    return CliRunner().invoke(cli, [str(a) for a in (*arguments, *cache)])


def _lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


WINDOW = ("--window", 0.32, "--stride", 0.16)


def test_a_stream_has_the_segments_of_its_file(
    material: Material, model: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_segments, "_STATUS_SECONDS", 0.0)
    of_file = _run(material, "predict", model, video, *WINDOW)
    assert of_file.exit_code == 0, of_file.output
    with http_stream(video) as address:
        result = _run(material, "predict", model, "--stream", address, *WINDOW)
    assert result.exit_code == 0, result.output
    keys = ("start", "end", "class")
    found = [[line[key] for key in keys] for line in _lines(result)]
    assert found == [[line[key] for key in keys] for line in _lines(of_file)]
    assert len(found) >= 2
    assert {line["path"] for line in _lines(result)} == {address}
    *status, summary = result.stderr.splitlines()
    assert re.fullmatch(r"[\d.]+ s: \S+; latency \d+\.\d\d s, [\d.]+ frames a second", status[0])
    assert re.fullmatch(
        r"[\d.]+ s, 80 frames, [\d.]+ frames a second; \d+ windows, latency .* s", summary
    )


def test_an_rtsp_stream_has_the_segments_of_its_file(
    material: Material, model: Path, video: Path
) -> None:
    lines = _lines(_run(material, "predict", model, video, *WINDOW))
    with rtsp_stream(video) as address:
        result = _run(material, "predict", model, "--stream", address, *WINDOW)
    assert result.exit_code == 0, result.output
    keys = ("start", "end", "class")
    assert [[line[key] for key in keys] for line in _lines(result)] == [
        [pytest.approx(line["start"]), pytest.approx(line["end"]), line["class"]] for line in lines
    ]
    assert {line["path"] for line in _lines(result)} == {address}
    assert "80 frames" in result.stderr
    assert re.search(r"\d+ windows, latency \d+\.\d\d s", result.stderr)


def test_python_streams_as_the_command_does(material: Material, model: Path, video: Path) -> None:
    loaded = FewShotClassifier.load(model, cache=material.folder / "cache", workers=1)
    with http_stream(video) as address:
        segments = loaded.stream(address, 0.32, 0.16)
        found = list(segments)
    lines = _lines(_run(material, "predict", model, video, *WINDOW))
    assert [s.to_dict() | {"path": str(video)} for s in found] == [
        line | {"probability": pytest.approx(line["probability"], abs=1e-5)} for line in lines
    ]
    for before, after in pairwise(found):
        assert before.end == after.start
    assert segments.windows == 19
    assert segments.counts.pictures == 80
    assert 0 < segments.mean_latency <= segments.max_latency


def test_what_was_predicted_before_a_stream_broke_off_is_written(
    material: Material, model: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_WAIT_SECONDS", 0.5)
    with http_stream(video, stays_open=True) as address:
        result = _run(material, "predict", model, "--stream", address, *WINDOW)
    assert result.exit_code == 3
    *segments, error = _lines(result)
    assert len(segments) >= 2
    assert "sent nothing" in str(error["error"])


def test_a_stream_shorter_than_a_window_has_an_error(
    material: Material, model: Path, video: Path
) -> None:
    with http_stream(video) as address:
        result = _run(material, "predict", model, "--stream", address, "--window", 60)
        loaded = FewShotClassifier.load(model, cache=material.folder / "cache", workers=1)
        with pytest.raises(VideoUnreadable, match="60 s"):
            list(loaded.stream(address, 60))
    assert result.exit_code == 3
    (line,) = _lines(result)
    assert line["path"] == address
    assert line["error"] == (
        "ended after 3.2 s, before its first window of 60 s was complete; a shorter window helps"
    )


@pytest.mark.parametrize("form", ["jsonl", "table"])
def test_a_video_much_shorter_than_its_windows_is_one_segment(
    material: Material, model: Path, video: Path, tmp_path: Path, form: str
) -> None:
    page = tmp_path / "page.html"
    arguments = ("--window", 300, "--format", form, "--report", page)
    result = _run(material, "predict", model, video, *arguments)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    assert "3.2 s in clips of 3.2 s, one every 3.2 s; 1 segment<" in page.read_text("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise")
@pytest.mark.parametrize("sender", [http_stream, rtsp_stream])
def test_ctrl_c_ends_with_what_was_predicted(
    material: Material,
    model: Path,
    video: Path,
    sender: Callable[..., AbstractContextManager[str]],
) -> None:
    # on a busy machine the stream may be silent for longer than is waited for; and processes in the
    # background inherit that Ctrl-C is ignored
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fewshot_i2v.data.video import live; live._WAIT_SECONDS = 300.0; "
        "from fewshot_i2v.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "predict", str(model), *map(str, WINDOW)]
    command += ["--cache", str(material.folder / "cache"), "--stream"]
    with (
        sender(video, stays_open=True) as address,
        subprocess.Popen(
            [*command, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    lines = [json.loads(line) for line in (first + rest).splitlines()]
    assert len(lines) >= 2
    assert all(a["end"] == b["start"] for a, b in pairwise(lines))
    assert "windows, latency" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--camera", 0), "--camera 0: goes with --window"),
        (("--report", "x.html", "a.mp4"), "--report x.html: goes with --window"),
        ((), "expected one of CLIPS, --stream and --camera"),
        (("a.mp4", "--stream", "b", "--window", 1), "expected one of CLIPS"),
        (("--camera", 0, "--report", "x.html", "--window", 1), "not with --stream or --camera"),
        (("a.mp4", "--report", "x.pdf", "--window", 1), "expected a file that ends in .html"),
        (("--stream", "ftp://x/y", "--window", 1), "expected an address of rtsp"),
    ],
)
def test_options_that_do_not_go_together(
    material: Material, model: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = _run(material, "predict", model, *arguments)
    assert result.exit_code == 2
    assert message in result.output + str(result.exception)


def test_a_page_of_what_happens_when(
    material: Material, model: Path, video: Path, tmp_path: Path
) -> None:
    page = tmp_path / "new" / "day.html"
    bad = tmp_path / "bad.ts"
    bad.write_bytes(b"no video")
    result = _run(material, "predict", model, video, bad, *WINDOW, "--report", page)
    assert result.exit_code == 3
    plain = _run(material, "predict", model, video, bad, *WINDOW)
    assert result.stdout == plain.stdout
    assert str(page) in result.stderr
    text = page.read_text(encoding="utf-8")
    segments = [line for line in _lines(result) if "error" not in line]
    assert text.count('<img src="data:image/jpeg;base64,') == len(segments)
    for segment in segments:
        assert f">{segment['start']:.2f}</td>" in text
        assert f">{segment['class']}</th>" in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text), "nothing is loaded from elsewhere"
    assert 'name="viewport"' in text
    assert "Timeline. 0.0 to" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "v.mp4      0.00 to     2.00 s  none of these (nearest: wave 36.3 %)\n"),
        (
            "csv",
            "path,start,end,class,probability,nearest,error\nv.mp4,0.0,2.0,,0.363,wave,\n",
        ),
    ],
)
def test_a_segment_of_none_of_the_classes_names_the_nearest(
    capsys: pytest.CaptureFixture[str], form: str, expected: str
) -> None:
    segment = Segment(0.0, 2.0, None, 0.363, nearest="wave")
    _segments.SegmentWriter(form, ["v.mp4"], ["wave"]).write("v.mp4", segment.to_dict())
    assert capsys.readouterr().out == expected


def test_a_clip_of_none_of_the_classes_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, probabilities = Path("v.mp4"), {"nod": 0.352, "wave": 0.648}
    prediction = Prediction(path, None, probabilities, nearest="wave")
    for top, rest in ((None, ""), (2, "  nod             35.2 %")):
        _segments.PredictionWriter("table", [path], ["nod", "wave"], top).write(prediction)
        assert capsys.readouterr().out == f"v.mp4  none of these (nearest: wave 64.8 %){rest}\n"


def test_names_are_escaped_on_the_page(material: Material, tmp_path: Path) -> None:
    from fewshot_i2v.data.video.windows import WindowPlan
    from fewshot_i2v.evaluation.segments import Timeline
    from fewshot_i2v.evaluation.timeline_page import write_timeline_page
    from fewshot_i2v.report.page.figures.timeline import Span

    name = "<b>wave</b>"
    timeline = Timeline(
        Path("<i>v</i>.mp4"),
        WindowPlan.of(1.0, 1.0, 1.0),
        (Segment(0.0, 0.5, name, 1.0), Segment(0.5, 1.0, None, 0.4, nearest=name)),
        (Span(0.0, 0.5, name, 1.0), Span(0.5, 1.0, None, 0.4)),
    )
    write_timeline_page(tmp_path / "p.html", [timeline], [name])
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<b>wave" not in text
    assert "<i>v" not in text
    assert "&lt;b&gt;wave" in text
    assert "none of these (nearest: &lt;b&gt;wave" in text
