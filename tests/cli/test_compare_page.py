"""The page of a comparison: what it holds, that it stands alone, and that a real browser shows it well."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.comparison.contenders import Accuracy, Comparison, Contender
from edgedet.comparison.correlation import Correlation
from edgedet.comparison.samples import Drawn, ModelSamples, sample_paths
from edgedet.comparison.training_log import Curve, read_curve
from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling.layers import Layer
from edgedet_runtime.profiling.machine import describe_machine
from edgedet_runtime.profiling.statistics import Interval, Summary
from tests.cli.chromium import Chromium, find_chromium
from tests.cli.colors import refused, run, solid, write_bundle

pytest.importorskip("jinja2", reason="pages are made with the extra report")
pytest.importorskip("matplotlib", reason="pages are made with the extra report")

PLANS = [Plan(engine, precision, 2) for engine in ("onnxruntime", "openvino") for precision in ("fp32", "int8")]
PLOTS = (
    "Latency",
    "GFLOPs against latency",
    "Memory access against latency",
    "Size",
    "INT8 speed-up",
    "Where the time goes",
    "Slowest layers",
)
WITH_DATA = ("Accuracy", "Accuracy against latency", "INT8 drop")


def contender(number: int, plan: Plan, *, scored: bool) -> Contender:
    """Return made-up figures of a model with a long name, different for each model and plan."""
    ms = (20 + 3.1 * ((number * 7) % 18)) * (0.6 if plan.precision == "int8" else 1.0)
    ap = 0.25 + 0.01 * ((number * 5) % 18) - (0.004 if plan.precision == "int8" else 0.0)
    layers = tuple(
        Layer(f"/model.{i}/<conv>/Conv_output_0", kind, plan.precision, ms / (i + 2), 10**6 * i, 10**6)
        for i, kind in enumerate(("Conv", "Sigmoid", "Mul", "Concat") * 6)
    )
    int8 = plan.precision == "int8"
    return Contender(
        model=f"zoo/640x640/yolov5n-<some>-long-backbone-{number}",
        name=f"yolov5n-{number}",
        plan=plan,
        input_hw=(640, 640),
        trained=scored,
        params=1_800_000 + 1000 * number,
        gflops=2 + 0.3 * number,
        memory_access_bytes=10**8 * (3 + number % 5),
        size_bytes=10**6 * (2 if int8 else 7),
        latency=Summary(30, ms, ms * 1.1, ms * 1.2, ms * 0.9, ms * 1.3, 0.04),
        infer_ms=ms * 0.9,
        speed_up=1 / 0.6 if int8 else None,
        ratio_to_first=Interval(1.1, 1.05, 1.15) if number else None,
        accuracy=Accuracy(ap, ap + 0.2, 0.6, 0.5, 0.55, 0.3) if scored else None,
        ap_drop=0.4 if int8 and scored else None,
        best=number == 0,
        layers=layers,
    )


def comparison(models: int = 3, *, scored: bool) -> Comparison:
    """Return a comparison of models on two engines in two precisions."""
    return Comparison(
        machine=describe_machine(),
        other_load_cpus=0.1,
        picture="golden picture of the bundle, 480x360",
        data="val.json" if scored else None,
        contenders=tuple(contender(n, plan, scored=scored) for n in range(models) for plan in PLANS),
        correlations=tuple(Correlation(plan, "gflops", models, 0.71, 0.62) for plan in PLANS),
    )


def samples(made: Comparison) -> list[ModelSamples]:
    """Return one sample picture of the first model, in both precisions."""
    good, data = cv2.imencode(".jpg", solid((0, 128, 255), (360, 480)))
    assert good
    jpeg = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    row = tuple(Drawn("photo.jpg", p, 3, 480, 360, jpeg) for p in ("fp32", "int8"))
    return [ModelSamples(made.contenders[0].model, "onnxruntime", (row,))]


class Page(HTMLParser):
    """Collects what a page would fetch or run, its headings and its rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.rows = 0
        self.headings: list[str] = []
        self._in_heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.rows += tag == "tr"
        self.fetched += [tag] if tag in ("script", "link", "iframe", "object") else []
        addresses = [str(v) for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        self.fetched += [a for a in addresses if not a.startswith(("#", "data:"))]
        self._in_heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        self.headings += [data] if self._in_heading else []
        self._in_heading = False


def render(made: Comparison, **more: Any) -> str:
    from edgedet.comparison.page import render_page

    return render_page(made, **more)


def test_stands_alone_and_escapes_names() -> None:
    made = comparison(scored=True)
    text = render(made, samples=samples(made), curves=[Curve("<run>", (1, 2, 3), (3.0, 2.0, 1.5))])
    page = Page(text)
    assert page.fetched == []
    assert re.findall(r"url\((?!#)|@import", text) == []
    assert "<some>" not in text
    assert "<conv>" not in text
    assert "<run>" not in text
    assert "&lt;some&gt;" in text
    assert "color-scheme: light dark" in text


def test_each_section_has_its_data() -> None:
    made = comparison(scored=True)
    curves = [Curve("run", (1, 2, 3), (3.0, 2.0, 1.5))]
    everything = Page(render(made, samples=samples(made), curves=curves)).headings
    assert everything == [
        "Cost, size and latency",
        *WITH_DATA[:2],
        *PLOTS[:5],
        WITH_DATA[2],
        "Where the time goes",
        "Training",
        "Slowest layers",
        "What they find",
    ]
    assert Page(render(comparison(scored=False))).headings == ["Cost, size and latency", *PLOTS]
    bare = [replace(c, layers=(), gflops=None, memory_access_bytes=None) for c in comparison(scored=False).contenders]
    fp32 = tuple(c for c in bare if c.plan.precision == "fp32")
    text = render(replace(comparison(scored=False), contenders=fp32, correlations=()))
    assert Page(text).headings == ["Cost, size and latency", "Latency", "Size"]


def test_says_what_is_untrained_and_which_coefficient() -> None:
    text = render(comparison(scored=False))
    assert "Latency only, untrained:" in text
    assert "Pearson 0.71, Spearman 0.62" in text
    assert "untrained" not in render(comparison(scored=True))


def test_pareto_front() -> None:
    from edgedet.comparison.plots import pareto

    assert pareto([(3, 0.5), (1, 0.2), (2, 0.4), (2, 0.3), (4, 0.5), (5, 0.1)]) == [(1, 0.2), (2, 0.4), (3, 0.5)]
    assert pareto([]) == []


def test_short_names() -> None:
    from edgedet.comparison.plots import short_names

    names = {"a": "yolov5n", "b": "yolov5n-ghostnet", "c": "yolov5n-mobilenetv3-small"}
    assert list(short_names(names).values()) == ["yolov5n", "ghostnet", "mobilenetv3-small"]
    assert short_names({**names, "d": "best"}) == {**names, "d": "best"}


def test_labels_do_not_cover_each_other() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from edgedet.html import page
    from edgedet.html.plot_labels import label_points

    figure, axes = page.new_figure(3.6, 4.6)
    points = [(float(i % 4), float(i // 4)) for i in range(12)]
    axes.plot([x for x, _ in points], [y for _, y in points], "o", markersize=5)
    axes.margins(0.2)
    label_points(axes, points, [f"model-{i}" for i in range(12)])
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in axes.texts if t.get_text()]
    assert len(boxes) == 12
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_command_writes_it_with_samples(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "model<1>")
    cv2.imwrite(str(tmp_path / "red.png"), solid((0, 0, 255)))
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    log.write_text('{"images": 100, "loss": 3.5}\n{"images": 200, "loss": 2.5}\n')
    path = tmp_path / "page.html"
    options = ("--runs", 2, "--threads", 1, "--html", path)
    result = run("compare", bundle, *options, "--samples", tmp_path, "--training", log.parent)
    assert result.exit_code == 0, result.output
    text = path.read_text()
    assert {"What they find", "Training", "Slowest layers"} <= set(Page(text).headings)
    assert "FP32: 1 object<" in text
    assert "model<1>" not in text
    refused(run("compare", bundle, *options[:4], "--html", tmp_path / "no" / "page.html"), "--html")
    refused(run("compare", bundle, *options, "--samples", tmp_path / "run"), "--samples", "run")
    refused(run("compare", bundle, *options, "--training", tmp_path), "--training", "log.jsonl")


def test_curve_and_sample_choice(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"images": 100, "loss": 3.5, "box": 1}\n\n{"images": 200, "loss": 2.5}\n')
    assert read_curve(tmp_path) == Curve(tmp_path.name, (100, 200), (3.5, 2.5))
    log.write_text("")
    with pytest.raises(InputError, match="no row"):
        read_curve(log)
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    assert [p.name for p in sample_paths(tmp_path, None)] == ["0.jpg", "2.jpg", "4.jpg", "6.jpg"]
    assert sample_paths(None, None) == []


LOOK = """({
  images: [...document.images].every(i => i.complete && i.naturalWidth > 0) && document.images.length,
  drawings: [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 200).length,
  background: getComputedStyle(document.documentElement).backgroundColor,
  ink: getComputedStyle(document.body).color,
  smallest: Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)),
})"""


@pytest.mark.slow
def test_in_a_real_browser(tmp_path: Path) -> None:
    """Desk and phone, light and dark: no complaint, no request, no scrolling sideways; everything is drawn."""
    find_chromium()
    made = comparison(18, scored=True)
    page = tmp_path / "page.html"
    page.write_text(
        render(made, samples=samples(made), curves=[Curve("run", (1, 2, 3), (3.0, 2.0, 1.5))]), encoding="utf-8"
    )
    brightness = {}
    with Chromium(tmp_path / "profile") as browser:
        for width in (1280, 390):
            for dark in (False, True):
                seen = browser.visit(page, width_px=width, dark=dark, script=LOOK)
                (tmp_path / f"{width}-{'dark' if dark else 'light'}.png").write_bytes(seen.screenshot)
                assert seen.complaints == []
                assert seen.requests == [page.resolve().as_uri()]
                assert seen.content_px <= width
                assert seen.facts["images"] == 2
                assert seen.facts["drawings"] == 17, "two engines for each of eight plots, and the training curves"
                assert seen.facts["smallest"] > 6, "letters can be read"
                shot = cv2.imdecode(np.frombuffer(seen.screenshot, np.uint8), cv2.IMREAD_GRAYSCALE)
                assert shot is not None
                brightness[width, dark] = float(np.median(shot))
    assert all(value < 60 if dark else value > 200 for (_, dark), value in brightness.items()), brightness
