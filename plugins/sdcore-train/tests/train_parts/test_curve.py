"""The loss curve shows what was measured, at the right place; axes and ticks are round."""

import math

import numpy as np
import pytest
from PIL import Image
from sdcore_train.monitor.axes import Axis, labels, linear_ticks, log_ticks, smooth, value_axis
from sdcore_train.monitor.curve import HEIGHT, WIDTH, curve, draw_curve
from sdcore_train.monitor.drawing import COLOURS, INK, MUTED


def rows(losses, terms=None, rate=1e-4):
    return [
        {"step": 10 * (i + 1), "loss": loss, "terms": {} if terms is None else terms(loss), "rate": rate}
        for i, loss in enumerate(losses)
    ]


def places(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """(y, x) in logical pixels of what has exactly this colour, below the legend."""
    found = np.argwhere((np.asarray(picture)[80:] == colour).all(-1))
    return (found + np.array([80, 0])) / 2


def test_a_line_stands_where_its_values_are():
    picture = curve(rows([0.5] * 50 + [0.25] * 50))
    assert picture.size == (2 * WIDTH, 2 * HEIGHT)
    line = places(picture, COLOURS[0])
    left, right = line[line[:, 1] < WIDTH * 0.3], line[line[:, 1] > WIDTH * 0.8]
    assert np.ptp(left[:, 0]) <= 2
    axis = value_axis([0.5, 0.25], [0.5, 0.25], 340, 44)  # with the panel of the rate below
    assert left[:, 0].mean() == pytest.approx(axis.place(0.5), abs=1.5)
    assert right[:, 0].mean() == pytest.approx(axis.place(0.25), abs=1.5)
    assert line[:, 1].min() < 75
    assert line[:, 1].max() > WIDTH - 25


def test_several_terms_have_colours_and_one_has_none_of_its_own():
    several = curve(rows([1.0] * 40, lambda loss: {"mse": 0.7 * loss, "prior": 0.3 * loss}))
    heights = [places(several, colour)[:, 0].mean() for colour in (INK, COLOURS[0], COLOURS[1])]
    assert heights == sorted(heights)  # the sum above its terms
    single = curve(rows([1.0] * 40, lambda loss: {"mse": loss}))
    assert len(places(single, COLOURS[0]))
    assert not len(places(single, COLOURS[1]))


def test_learning_rate_has_a_panel_of_its_own():
    rising = [{"step": i, "loss": 1.0, "rate": 1e-4 * i} for i in range(1, 51)]
    line = places(curve(rising), MUTED)
    line = line[(line[:, 0] > 362) & (line[:, 0] < 418) & (line[:, 1] > 70)]
    assert line[line[:, 1] < 200][:, 0].mean() > line[line[:, 1] > 700][:, 0].mean() + 20
    flat = places(curve([{"step": i, "loss": 1.0} for i in range(1, 51)]), MUTED)
    flat = flat[(flat[:, 0] > 362) & (flat[:, 0] < 418) & (flat[:, 1] > 70)]
    assert not len(flat)


@pytest.mark.parametrize(
    "given",
    [
        [],
        rows([0.3]),
        rows([math.nan, 0.4, None, 0.3, math.inf]),
        rows([0.0] * 5),
        rows([-1.0, 2.0, 0.0]),
        rows([5.0, 5.0], rate=0.0),
        rows([1e-30, 1e30, 2.0]),
        [{"step": 3, "loss": 1.0, "terms": None, "rate": None}, {"step": 4}],
        [{"step": 0, "rate": 1e-4}],
    ],
)
def test_it_draws_whatever_the_log_holds(given, tmp_path):
    path = draw_curve(given, tmp_path / "loss.png")
    with Image.open(path) as picture:
        assert picture.size == (1720, 920)


@pytest.mark.parametrize("peak", [1.0, 50.0, 1e6])
def test_a_peak_does_not_flatten_the_curve(peak):
    losses = [0.2 + 0.1 * math.cos(i / 20) for i in range(300)]
    losses[150] = peak
    line = places(curve(rows(losses)), COLOURS[0])
    early = line[line[:, 1] < WIDTH * 0.4]
    assert np.ptp(early[:, 0]) > 120


def test_the_steep_start_is_not_taken_for_a_peak():
    axis = value_axis([10.0, *[1.0] * 300], [2.5, 1.7, *[1.0] * 300], 0, 1)
    assert axis.high > 2.5


def test_many_rows_stay_a_small_file(tmp_path):
    noise = np.random.default_rng(0).lognormal(size=20_000)
    path = draw_curve(rows((noise * np.exp(-np.arange(20_000) / 4000)).tolist()), tmp_path / "loss.png")
    assert path.stat().st_size < 300_000


def test_axis_is_logarithmic_only_where_values_span_much():
    assert not value_axis([1, 2, 7], [1, 2, 7], 0, 1).log
    assert value_axis([0.1, 2, 7], [0.1, 2, 7], 0, 1).log
    assert not value_axis([-0.1, 2, 7], [0.1, 2, 7], 0, 1).log
    assert value_axis([0.5, 3.0], [0.5, 3.0], 0, 1).low == 0  # near enough to 0 to start there
    assert value_axis([2.9, 3.0], [2.9, 3.0], 0, 1).low > 2.5


def test_places_are_proportional_and_keep_to_the_border():
    axis = Axis(1, 100, 300, 100, log=True)
    assert [axis.place(v) for v in (1, 10, 100, 1000, 0)] == [300, 200, 100, 100, 300]
    assert Axis(0, 4, 0, 8).place(1) == 2


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 9.7, 3, [0, 5]),
        (0, 25_000, 6, [0, 5000, 10_000, 15_000, 20_000, 25_000]),
        (0.031, 0.047, 4, [0.035, 0.04, 0.045]),
        (-2, 2, 4, [-2, -1, 0, 1, 2]),
    ],
)
def test_linear_ticks_are_round(low, high, most, expected):
    assert linear_ticks(low, high, most) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.04, 0.9, 6, [0.05, 0.1, 0.2, 0.5]),
        (0.5, 2000, 6, [1, 10, 100, 1000]),
        (1, 1e12, 6, [1, 1e3, 1e6, 1e9, 1e12]),
    ],
)
def test_log_ticks_are_round(low, high, most, expected):
    assert log_ticks(low, high, most) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([0, 0.2, 0.4], ["0", "0.2", "0.4"]),
        ([0, 0.30000000000000004], ["0", "0.3"]),
        ([0, 5000, 10_000], ["0", "5k", "10k"]),
        ([0, 500, 1000], ["0", "500", "1000"]),
        ([5e-5, 1e-4], ["5e-5", "1e-4"]),
        ([0, 1e7], ["0", "10M"]),
    ],
)
def test_labels_are_short(ticks, expected):
    assert labels(ticks) == expected


def test_smoothing_neither_lags_nor_bends_a_line():
    assert smooth([3.0] * 20, 7) == pytest.approx([3.0] * 20)
    ramp = smooth([float(i) for i in range(201)], 9)
    assert ramp[100] == pytest.approx(100)
    step = smooth([0.0] * 100 + [1.0] * 100, 9)
    assert step[99] + step[100] == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=2000)
    assert np.std(smooth(noise.tolist(), 50)) < 0.25
    assert smooth([], 5) == []
    assert smooth([2.0], 5) == [2.0]
