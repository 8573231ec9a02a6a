"""Calibration against scikit-learn, SciPy and plain loops over all pairs."""

from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from scipy.optimize import brentq
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from reid_core import ConfigError, DataError, JunkRule, Protocol, find_protocol
from reid_retrieval import Labels
from reid_retrieval.features import FeatureSet
from reid_search.calibration import pairs as pairs_module
from reid_search.calibration.counting import ScoreCounts, count_pairs
from reid_search.calibration.curves import (
    OperatingPoint,
    Roc,
    area_under,
    equal_error_rate,
)
from reid_search.calibration.groups import GroupCounts, GroupRates
from reid_search.calibration.intervals import Draws, Interval
from reid_search.calibration.measuring import calibrate
from reid_search.calibration.open_set import OpenSet
from reid_search.calibration.pairs import COUNT, LEVELS, Pairs, level_of, similarity_of
from reid_search.calibration.probability import (
    Calibration,
    cross_reliability,
    fit,
    reliability,
)
from reid_search.calibration.resampling import resample, watched_levels
from reid_search.calibration.tables import _groups

PEOPLE, SHOTS = 14, 8


class Set:
    """People before four cameras in two outfits, their similarities and which pairs count."""

    def __init__(self, noise=1.2, seed=0, rounded=None):
        rng = np.random.default_rng(seed)
        pid = np.repeat(np.arange(PEOPLE) + 3, SHOTS)
        # The query of person 16 is not in the gallery.
        camid = np.tile(np.arange(SHOTS) % 4, PEOPLE)
        clothes = 2 * pid + (np.arange(len(pid)) % SHOTS >= SHOTS // 2)
        features = rng.normal(size=(PEOPLE, 8))[pid - 3] + noise * rng.normal(size=(len(pid), 8))
        if rounded:
            features = np.round(features * rounded)
        asks = np.arange(len(pid)) % SHOTS < 2
        there = ~asks & (pid != 16)
        self.query, self.gallery = (features[m].astype(np.float32) for m in (asks, there))
        self.asked, self.offered = (
            {"pid": pid[m], "camid": camid[m], "clothes": clothes[m]} for m in (asks, there)
        )
        unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (self.query, self.gallery)]
        exact = unit[0].astype(np.float64) @ unit[1].astype(np.float64).T
        self.similarity = np.floor(exact * LEVELS) / LEVELS
        self.same = self.asked["pid"][:, None] == self.offered["pid"]
        self.counts = ~(self.same & (self.asked["camid"][:, None] == self.offered["camid"]))

    def pairs(self, protocol="standard"):
        rule = find_protocol(protocol) if isinstance(protocol, str) else protocol
        return Pairs(
            FeatureSet(self.query, Labels.of(self.asked)),
            FeatureSet(self.gallery, Labels.of(self.offered)),
            rule,
        )

    def calibrate(self, **options):
        options = {"operating_point": "fpr=0.05", "draws": 20, **options}
        return calibrate(self.query, self.gallery, self.asked, self.offered, **options)


@pytest.fixture(scope="module")
def people():
    return Set()


@pytest.fixture(scope="module")
def counted(people):
    return count_pairs(people.pairs())


def random_counts(seed=0, step=1):
    """Return pairs by level, and the pairs themselves."""
    rng = np.random.default_rng(seed)
    same, different = rng.normal(0.6, 0.15, 400), rng.normal(0.3, 0.15, 3000)
    grid = [np.round(np.clip(v, -1, 1) * LEVELS / step) * step / LEVELS for v in (same, different)]
    counts = [np.bincount(level_of(v), minlength=COUNT) for v in grid]
    return ScoreCounts(*counts), np.concatenate(grid), np.repeat([1, 0], [400, 3000])


def test_a_similarity_reaches_a_threshold_exactly_if_its_level_does():
    values = np.array(
        [-1.0000001, -1, -0.3, 0, 0.5, np.nextafter(np.float32(0.5), 0), 1, 1.0000001]
    )
    levels = level_of(values.astype(np.float32))
    assert levels[[0, 1, -2, -1]].tolist() == [0, 0, COUNT - 1, COUNT - 1]
    assert levels[5] == levels[4] - 1
    for level in levels[2:6].tolist():
        assert np.float32(similarity_of(level)) == similarity_of(level)
    reached = (
        values.astype(np.float32)[None, 2:6]
        >= np.float32([similarity_of(level) for level in levels[2:6].tolist()])[:, None]
    )
    assert (reached == (levels[None, 2:6] >= levels[2:6, None])).all()


@pytest.mark.parametrize("step", [1, LEVELS // 16], ids=["few ties", "many ties"])
def test_the_curve_is_that_of_scikit_learn(step):
    counts, scores, truth = random_counts(step=step)
    roc = Roc.of(counts)
    fpr, tpr, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.fpr, fpr)
    np.testing.assert_allclose(roc.tpr, tpr)
    np.testing.assert_array_equal(roc.thresholds[1:], thresholds[1:])
    assert area_under(roc.fpr, roc.tpr) == pytest.approx(roc_auc_score(truth, scores))
    crossing = brentq(lambda x: 1 - x - np.interp(x, fpr, tpr), 0, 1)
    assert equal_error_rate(roc.fpr, roc.tpr) == pytest.approx(crossing, abs=1e-9)
    for target in (0.1, 0.01, 0.001):
        place = roc.place_of_fpr(target)
        best = (fpr <= target).nonzero()[0][-1]
        assert (roc.fpr[place], roc.tpr[place]) == pytest.approx((fpr[best], tpr[best]))
        level = int(roc.levels[place])
        assert roc.rates_at(level) == pytest.approx((fpr[best], tpr[best]))
        assert roc.rates_at(level)[1] == (scores[truth == 1] >= similarity_of(level)).mean()


def test_a_thinned_curve_is_part_of_the_curve():
    roc = Roc.of(random_counts()[0])
    thin = roc.thinned(60)
    assert 20 < len(thin.levels) <= 61
    assert np.isin(thin.levels, roc.levels).all()
    assert (thin.fpr[0], thin.tpr[0], thin.fpr[-1], thin.tpr[-1]) == (0, 0, 1, 1)


def test_a_histogram_holds_every_pair_between_its_edges():
    counts, scores, truth = random_counts()
    edges, same, different = counts.histogram(20)
    for found, value in ((same, 1), (different, 0)):
        np.testing.assert_array_equal(found, np.histogram(scores[truth == value], edges)[0])


@pytest.mark.parametrize(
    "protocol",
    ["standard", "cross-clothes", "no-camera", Protocol("apart", junk=JunkRule(apart=("camid",)))],
    ids=lambda p: getattr(p, "name", p),
)
def test_the_pairs_that_count_are_those_of_the_protocol(protocol, people):
    camera = people.asked["camid"][:, None] == people.offered["camid"]
    outfit = people.asked["clothes"][:, None] == people.offered["clothes"]
    junk = {
        "standard": people.same & camera,
        "cross-clothes": people.same & (camera | outfit),
        "no-camera": np.zeros_like(camera),
        "apart": camera,
    }[getattr(protocol, "name", protocol)]
    found = count_pairs(people.pairs(protocol)).all
    for counts, kind in ((found.same, people.same), (found.different, ~people.same)):
        expected = np.sort(people.similarity[kind & ~junk])
        levels = np.repeat(np.arange(COUNT), counts)
        assert len(levels) == len(expected)
        # float32 products may lie a level beside those of float64.
        np.testing.assert_allclose([similarity_of(v) for v in levels], expected, atol=2 / LEVELS)


def test_memory_does_not_decide_what_is_counted(people, counted, monkeypatch):
    monkeypatch.setattr(pairs_module, "_CELLS_AT_ONCE", 200)
    again = count_pairs(people.pairs())
    assert again.all.pairs == counted.all.pairs
    # Products of other blocks may round to the level beside.
    np.testing.assert_allclose(again.searches.other, counted.searches.other, atol=1)
    np.testing.assert_allclose(again.searches.own, counted.searches.own, atol=1)
    assert max(len(block.queries) for block in people.pairs().blocks()) <= 3


def test_halves_share_nobody(people, counted):
    half = np.random.default_rng(0).permutation(PEOPLE) % 2
    asked, offered = (half[labels["pid"] - 3] for labels in (people.asked, people.offered))
    for side in (0, 1):
        within = (asked == side)[:, None] & (offered == side) & people.counts
        assert counted.halves[side].pairs == (
            (within & people.same).sum(), (within & ~people.same).sum()
        )  # fmt: skip


def test_searches_are_those_of_plain_loops(people, counted):
    known = right = answered = 0
    level = int(np.quantile(counted.searches.other, 0.6))
    order = np.argsort(people.asked["pid"], kind="stable")
    for query in order.tolist():
        row = people.similarity[query]
        own = row[people.same[query] & people.counts[query]]
        other = row[~people.same[query]]
        threshold = similarity_of(level)
        answered += other.max() >= threshold
        known += bool(len(own))
        right += bool(len(own)) and own.max() > other.max() and own.max() >= threshold
    open_set = OpenSet(counted.searches)
    assert open_set.far_at(level) == answered / len(order)
    assert open_set.dir_at(level) == right / known
    assert known == len(order) - 2
    assert counted.searches.absent.sum() == 2
    chosen = open_set.level_at(0.25)
    assert open_set.far_at(chosen) <= 0.25 < open_set.far_at(chosen - 1)
    assert open_set.level_at(0.01) is None


def test_the_first_of_equals_is_the_answer():
    gallery = np.array([[1, 0], [1, 0], [0, 1]], np.float32)

    def first(pids):
        asked = FeatureSet(np.array([[1.0, 0]], np.float32), Labels([1], [0]))
        offered = FeatureSet(gallery, Labels(pids, [1, 1, 1]))
        return count_pairs(Pairs(asked, offered, find_protocol("standard"))).searches.first[0]

    assert first([1, 2, 2])
    assert not first([2, 1, 2])


def test_drawn_rates_are_those_of_people_taken_as_often(people, counted):
    pairs = people.pairs()
    draws = Draws.of(PEOPLE, 5, seed=1)
    levels = watched_levels(counted.all, [LEVELS])
    drawn = resample(pairs, draws, levels)
    weights = draws.weights[:, draws.units].astype(np.float64)
    order = np.argsort(people.asked["pid"], kind="stable")
    first, second = people.asked["pid"][order] - 3, people.offered["pid"] - 3
    fine = np.concatenate([block.levels for block in pairs.blocks()])
    same, counts = people.same[order], people.counts[order]
    for row, weight in enumerate(weights):
        both = weight[first][:, None] * weight[second]
        once = np.broadcast_to(weight[first][:, None], both.shape)
        for level in (*levels[:: len(levels) // 7].tolist(), LEVELS):
            fpr, tpr = drawn.at(level)
            different, own = ~same & counts, same & counts
            assert fpr[row] == pytest.approx(
                both[different & (fine >= level)].sum() / both[different].sum()
            )
            assert tpr[row] == pytest.approx(once[own & (fine >= level)].sum() / once[own].sum())
        # The threshold is chosen anew in every draw.
        reached = [(both[different & (fine >= v)].sum() / both[different].sum()) for v in levels]
        place = next(i for i, share in enumerate(reached) if share <= 0.01)
        expected = once[own & (fine >= levels[place])].sum() / once[own].sum()
        assert drawn.tpr_at(0.01, 1000)[row] == pytest.approx(expected)


def test_more_people_than_units_share_them():
    draws = Draws.of(2500, 3)
    assert draws.weights.shape == (3, 1000)
    assert set(np.bincount(draws.units)) == {2, 3}
    assert draws.weights.sum(1).tolist() == [1000] * 3
    counts = np.arange(2500)[:, None] * np.array([1, 2])
    np.testing.assert_allclose(draws.summed(counts)[:, 1], 2 * draws.summed(counts)[:, 0])


def test_drawn_searches_choose_their_threshold_anew(counted):
    draws = Draws.of(PEOPLE, 4, seed=2)
    weights = draws.weights
    searches, open_set = counted.searches, OpenSet(counted.searches)
    known = searches.own >= 0
    for row, found in enumerate(open_set.resampled_at(0.2, draws)):
        repeat = weights[row][searches.people].astype(int)
        other = np.repeat(searches.other, repeat)
        level = next(v for v in np.unique(other) + 1 if (other >= v).mean() <= 0.2)
        right = np.repeat(searches.first & (searches.own >= level), repeat)
        assert found == pytest.approx(right[np.repeat(known, repeat)].mean())
    rates = open_set.resampled_rates(level, draws)
    assert rates[0][-1] == pytest.approx(right[np.repeat(known, repeat)].mean())
    assert rates[1][-1] == pytest.approx((other >= level).mean())
    stranger = Draws(draws.units, np.eye(PEOPLE, dtype=np.float32)[-1:])
    assert np.isnan(open_set.resampled_at(0.2, stranger)[0])
    assert np.isnan(open_set.resampled_rates(level, stranger)[0][0])


def test_groups_are_cameras_and_clothes(people):
    result = people.calibrate()
    threshold = result.chosen.threshold
    reached = people.similarity >= threshold
    asked, offered = people.asked["camid"][:, None], people.offered["camid"]
    for group in result.cameras:
        numbers = [int(word) for word in group.name.replace(",", "").split()[1:]]
        a, b = numbers[0], numbers[-1]
        of_group = ((asked == a) & (offered == b)) | ((asked == b) & (offered == a))
        own = of_group & people.same & people.counts
        other = of_group & ~people.same
        assert (group.same, group.different) == (own.sum(), other.sum())
        assert group.fpr.value == pytest.approx(reached[other].mean(), abs=2e-3)
        assert (group.tpr is None) == (a == b)
        if group.tpr:
            assert group.tpr.value == pytest.approx(reached[own].mean(), abs=2e-3)
            assert group.tpr.low <= group.tpr.value <= group.tpr.high
    assert len(result.cameras) == 7  # queries are of cameras 0 and 1
    outfit = people.asked["clothes"][:, None] == people.offered["clothes"]
    for group, mask in zip(result.clothes, (outfit, ~outfit), strict=True):
        own = people.same & people.counts & mask
        assert group.same == own.sum()
        assert group.tpr.value == pytest.approx(reached[own].mean(), abs=2e-3)


def test_drawn_rates_of_cameras_weigh_both_people(people, counted):
    pairs, draws, level = people.pairs(), Draws.of(PEOPLE, 3, seed=5), 3 * LEVELS // 2
    groups = GroupCounts(pairs, draws, level)
    resample(pairs, draws, watched_levels(counted.all, [level]), groups)
    order = np.argsort(people.asked["pid"], kind="stable")
    first, second = people.asked["pid"][order] - 3, people.offered["pid"] - 3
    levels = np.concatenate([block.levels for block in pairs.blocks()])
    camera = people.asked["camid"][order][:, None], people.offered["camid"]
    of_group = (camera[0] == 0) & (camera[1] == 2) & ~people.same[order]
    rates = []
    for weight in draws.weights.astype(np.float64):
        both = weight[first][:, None] * weight[second]
        rates.append(both[of_group & (levels >= level)].sum() / both[of_group].sum())
    assert max(rates) > 0
    found = next(group for group in groups.camera_rates(0.5) if group.name == "cameras 0, 2")
    expected = Interval.of(found.fpr.value, np.array(rates), 0.5)
    assert (found.fpr.low, found.fpr.high) == pytest.approx((expected.low, expected.high))


def test_without_cameras_and_clothes_there_are_no_groups(people):
    plain = calibrate(
        people.query, people.gallery, people.asked["pid"], people.offered["pid"], "no-camera",
        operating_point="eer", draws=3,
    )  # fmt: skip
    assert plain.cameras == ()
    assert plain.clothes == ()


def test_the_logistic_calibration_is_that_of_scikit_learn():
    counts, scores, truth = random_counts()
    weights = np.where(truth == 1, 1 / 400, 1 / 3000) * 1000
    model = LogisticRegression(C=1e9).fit(scores[:, None], truth, sample_weight=weights)
    found = fit(counts, "logistic")
    asked = np.linspace(0, 0.9, 7)
    # Platt's targets draw it a little towards one half.
    np.testing.assert_allclose(
        found.probability(asked), model.predict_proba(asked[:, None])[:, 1], atol=0.01
    )
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=0.05)


def test_people_who_do_not_overlap_have_a_finite_calibration():
    same, different = (np.bincount(level_of(np.array(v)), minlength=COUNT)
                       for v in ([0.8, 0.9], [0.1, 0.2, 0.3]))  # fmt: skip
    for method in ("logistic", "isotonic"):
        low, high = fit(ScoreCounts(same, different), method).probability([0.2, 0.85])
        assert 0 < low < 0.5 < high < 1


def test_the_isotonic_calibration_is_that_of_scikit_learn():
    counts, scores, truth = random_counts()
    weights = np.where(truth == 1, 1 / 400, 1 / 3000)
    model = IsotonicRegression(out_of_bounds="clip").fit(scores, truth, sample_weight=weights)
    found = fit(counts, "isotonic")
    asked = np.linspace(0.1, 0.8, 30)
    assert np.abs(found.probability(asked) - model.predict(asked)).mean() < 0.03
    assert (np.diff(found.probability(np.linspace(-1, 1, 100))) >= 0).all()
    assert len(found.knots) <= 512


def test_a_prior_follows_bayes():
    one = Calibration("logistic", slope=8.0, offset=-4.0)
    even = one.probability(0.7)
    odds = even / (1 - even) * (0.02 / 0.98)
    assert one.probability(0.7, prior=0.02) == pytest.approx(odds / (1 + odds))
    with pytest.raises(ConfigError, match="a prior lies between 0 and 1, not at 0"):
        one.probability(0.7, prior=0)


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_a_stored_calibration_is_read_again(method):
    one = fit(random_counts()[0], method)
    assert Calibration.from_json(one.to_json()) == one
    for broken in ({}, {**one.to_json(), "method": "other"}, {"method": "isotonic", "knots": [1]}):
        with pytest.raises(ConfigError, match="cannot be read; calibrate again"):
            Calibration.from_json(broken)


def test_reliability_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    scores = [np.floor(rng.uniform(-1, 1, 500) * LEVELS) / LEVELS for _ in range(2)]
    counts = ScoreCounts(*(np.bincount(level_of(v), minlength=COUNT) for v in scores))
    found = reliability("similarity", [(counts, lambda s: (1 + s) / 2)], bins=10)
    truth = np.repeat([1, 0], 500)
    given = (1 + np.concatenate(scores)) / 2
    observed, predicted = calibration_curve(truth, given, n_bins=10)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.brier == pytest.approx(brier_score_loss(truth, given))
    bins = np.bincount((given * 10).astype(int)) / 1000
    assert found.expected_error == pytest.approx((bins * np.abs(observed - predicted)).sum())


def test_calibrations_are_compared_on_people_they_were_not_fitted_to():
    counts, *_ = random_counts(0)
    other, *_ = random_counts(1)
    fitted = cross_reliability((counts, other), "logistic")
    plain = cross_reliability((counts, other), "similarity")
    assert fitted.expected_error < 0.05 < plain.expected_error
    expected = reliability(
        "logistic",
        [
            (other, fit(counts, "logistic").probability),
            (counts, fit(other, "logistic").probability),
        ],
    )
    assert fitted == expected
    apart = [reliability("", [(half, one.probability)]) for half, one in (
        (other, fit(counts, "logistic")), (counts, fit(other, "logistic"))
    )]  # fmt: skip
    assert fitted.brier == pytest.approx(np.mean([one.brier for one in apart]))
    nobody = ScoreCounts(np.zeros_like(counts.same), counts.different)
    assert cross_reliability((counts, nobody), "logistic") is None


@pytest.mark.parametrize("text", ["fpr=0.05", "tpr=0.5", "far=0.3", "eer", "similarity=0.4"])
def test_operating_points_hold_what_they_promise(text, people):
    result = people.calibrate(operating_point=text)
    chosen, rate = result.chosen, float(text.partition("=")[2] or 0)
    above = chosen.threshold + 1 / LEVELS
    if text.startswith("fpr"):
        assert chosen.fpr.value <= rate
    elif text.startswith("tpr"):
        assert chosen.tpr.value >= rate > result.roc.rates_at(level_of(np.array([above]))[0])[1]
    elif text.startswith("far"):
        assert chosen.far.value <= rate
    elif text == "eer":
        assert chosen.fpr.value == pytest.approx(1 - chosen.tpr.value, abs=0.02)
    else:
        assert chosen.threshold == pytest.approx(0.4, abs=1 / LEVELS)
        assert chosen.threshold >= 0.4
    assert result.stored()["threshold"] == chosen.threshold
    assert result.stored()["operating_point"] == text


@pytest.mark.parametrize("text", ["fpr", "fpr=2", "fpr=0", "far=x", "eer=1", "recall=0.5", ""])
def test_what_is_no_operating_point_is_refused(text):
    with pytest.raises(ConfigError, match=r"expected fpr=RATE or tpr=RATE"):
        OperatingPoint.parse(text)


def test_rates_that_the_data_cannot_tell_are_refused(people):
    with pytest.raises(
        ConfigError, match=r"\d+ pairs of different people cannot tell a rate below"
    ):
        people.calibrate(operating_point="fpr=1e-5")
    with pytest.raises(ConfigError, match=r"28 searches cannot tell a rate below 0\.036"):
        people.calibrate(operating_point="far=0.01")
    assert people.calibrate().tpr_at_fpr[3].rate is None


def test_equal_pictures_of_different_people_have_no_threshold():
    features = np.tile(np.eye(2, dtype=np.float32), (6, 1))
    pids = np.repeat([1, 2, 3, 4], 3)
    with pytest.raises(ConfigError, match=r"no threshold has this rate.*the same file"):
        calibrate(features[:8], np.concatenate([features, features[:2]]), pids[:8],
                  [*pids, 1, 1], "no-camera", operating_point="fpr=0.1")  # fmt: skip


def test_what_cannot_be_calibrated_is_refused(people):
    labels = {key: np.zeros_like(values) for key, values in people.asked.items()}
    other = {**labels, "camid": labels["camid"] + 1}
    with pytest.raises(DataError, match=r"no pair shows different people.*several people"):
        calibrate(people.query, people.query, labels, other)
    with pytest.raises(DataError, match=r"no query has a match.*only junk"):
        calibrate(people.query, people.query, people.asked, people.asked, "cross-clothes")
    with pytest.raises(DataError, match="must come from one model"):
        calibrate(people.query[:, :3], people.gallery, people.asked, people.offered)
    broken = people.query.copy()
    broken[3] = np.nan
    with pytest.raises(DataError, match=r"not finite: 1 of 28.*row 3"):
        calibrate(broken, people.gallery, people.asked, people.offered)
    opposite = Set(noise=0.2)
    opposite.query *= -1
    with pytest.raises(DataError, match="cannot tell the people of this data apart"):
        opposite.calibrate()
    for options in ({"confidence": 1}, {"draws": 0}, {"method": "beta"}):
        with pytest.raises(ConfigError):
            people.calibrate(**options)


def test_an_interval_holds_its_value_and_leaves_out_what_does_not_tell():
    drawn = np.array([0.2, 0.4, np.nan, 0.6])
    assert Interval.of(0.1, drawn, 0.5) == Interval(0.1, 0.1, pytest.approx(0.5))
    assert Interval.of(0.3, drawn[2:3], 0.95) == Interval(0.3)


def test_nobody_failing_leaves_a_rate_that_so_few_cannot_tell():
    """Of ten people without one success, the exact bound of 95 % is 1 - 0.025^(1/10)."""
    none = Interval.of(0.0, np.zeros(5), 0.95, 10)
    assert (none.low, none.high) == (0, pytest.approx(1 - 0.025**0.1))
    every = Interval.of(1.0, np.ones(5), 0.95, 10)
    assert (every.low, every.high) == (pytest.approx(0.025**0.1), 1)
    assert Interval.of(0.5, np.array([0.5]), 0.95, 10).low == 0.5


def test_intervals_are_those_of_people_and_not_of_pairs():
    """Ten pictures of everybody that are all alike tell no more than one."""
    few, many = Set(noise=0.8, seed=4), Set(noise=0.8, seed=4)
    many.gallery = np.repeat(many.gallery, 10, axis=0)
    many.offered = {key: np.repeat(values, 10) for key, values in many.offered.items()}
    one, ten = few.calibrate(draws=200), many.calibrate(draws=200)
    assert ten.chosen.tpr.high - ten.chosen.tpr.low == pytest.approx(
        one.chosen.tpr.high - one.chosen.tpr.low, rel=1e-3
    )
    assert ten.eer.low == pytest.approx(one.eer.low, abs=5e-3)


def test_a_result_is_plain_data_and_repeats(people):
    import json

    first, second = (json.dumps(people.calibrate().to_json()) for _ in range(2))
    assert first == second
    assert first != json.dumps(people.calibrate(seed=1).to_json())


def test_the_widest_rates_of_groups_fit_a_terminal_of_80_columns() -> None:
    """As of the smallest data sets, where intervals reach from 0 to 100 %."""
    wide = Interval(1.0, 0.0, 1.0)
    groups = [GroupRates(name, 99, 1234, wide, wide) for name in ("cameras 10, 12", "same clothes")]
    console = Console(width=80, file=StringIO())
    console.print(_groups(SimpleNamespace(cameras=groups[:1], clothes=groups[1:])))
    rows = [line for line in console.file.getvalue().splitlines() if "[" in line or "]" in line]
    assert len(rows) == 2
    assert all(row.count("[") == row.count("]") == 2 for row in rows)
