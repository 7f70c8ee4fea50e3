"""Arrays in, numbers out: metrics and intervals, calibration, comparison, novelty, thresholds."""

from tellapart.judge.balance import counts_alike, is_unbalanced
from tellapart.judge.calibrate import fit_temperature, log_softmax
from tellapart.judge.calibration_error import calibration_error
from tellapart.judge.compare import Comparison, compare
from tellapart.judge.conformal import conformal_mass
from tellapart.judge.fit import curve_words, fit_words
from tellapart.judge.forecast import Forecast, forecast
from tellapart.judge.intervals import clopper_pearson
from tellapart.judge.metrics import (
    MOST_CONFUSED,
    ClassMetrics,
    Metrics,
    ReliabilityBin,
    confusion,
    metrics,
    per_class,
    reliability,
)
from tellapart.judge.novelty import Novelty, pick_reference, spaced
from tellapart.judge.paired import Paired, paired_accuracy
from tellapart.judge.pool import pool_weights
from tellapart.judge.risk import RiskPoint, risk_coverage
from tellapart.judge.robust import Robustness, compare_corrupted
from tellapart.judge.shares import Share, cluster_codes, share_of
from tellapart.judge.slices import Slice, Slices, compare_slices
from tellapart.judge.thresholds import Thresholds, answers, choose_thresholds
from tellapart.runtime.answers import Answer, softmax

__all__ = [
    "MOST_CONFUSED",
    "Answer",
    "ClassMetrics",
    "Comparison",
    "Forecast",
    "Metrics",
    "Novelty",
    "Paired",
    "ReliabilityBin",
    "RiskPoint",
    "Robustness",
    "Share",
    "Slice",
    "Slices",
    "Thresholds",
    "answers",
    "calibration_error",
    "choose_thresholds",
    "clopper_pearson",
    "cluster_codes",
    "compare",
    "compare_corrupted",
    "compare_slices",
    "conformal_mass",
    "confusion",
    "counts_alike",
    "curve_words",
    "fit_temperature",
    "fit_words",
    "forecast",
    "is_unbalanced",
    "log_softmax",
    "metrics",
    "paired_accuracy",
    "per_class",
    "pick_reference",
    "pool_weights",
    "reliability",
    "risk_coverage",
    "share_of",
    "softmax",
    "spaced",
]
