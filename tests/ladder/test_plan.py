"""Which rungs are climbed, and that the reasons are said."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import RecipeError
from tellapart.ladder.plan import Facts, plan

FACTS = Facts(
    num_train=300,
    num_classes=3,
    median_side_px=400,
    seconds_left=600.0,
    method="auto",
    effort="balanced",
    weights="some_backbone",
    no_weights="",
    graph_cached=False,
    can_train_networks=True,
)


def climbed(**changes: object) -> tuple[str, ...]:
    return plan(dataclasses.replace(FACTS, **changes)).climbed  # type: ignore[arg-type]


def test_photos_with_weights_get_the_probe_and_then_its_backbone_tuned_unless_quick() -> None:
    assert climbed() == climbed(effort="best") == ("majority", "probe", "finetune")
    assert climbed(effort="quick") == ("majority", "probe")
    assert climbed(can_train_networks=False) == ("majority", "probe")


def test_a_run_without_weights_gets_a_network_of_its_own_and_says_why() -> None:
    chosen = plan(dataclasses.replace(FACTS, weights=None, no_weights="no pretrained weights were found"))
    assert chosen.climbed == ("majority", "classical", "scratch")
    assert next(rung.why for rung in chosen.rungs if rung.method == "probe") == "no pretrained weights were found"


def test_without_weights_features_by_hand_come_first_and_alone_where_pictures_are_few() -> None:
    for effort in ("quick", "balanced", "best"):
        assert climbed(weights=None, effort=effort, num_train=60) == ("majority", "classical")
    assert climbed(weights=None, num_train=60, method="scratch") == ("majority", "scratch")
    assert climbed(method="classical") == ("majority", "classical")


def test_many_pictures_or_tiny_ones_are_worth_a_network_of_their_own_beside_the_probe() -> None:
    assert climbed(num_train=5_000, seconds_left=40.0) == ("majority", "probe", "scratch")
    assert climbed(median_side_px=28, seconds_left=40.0) == ("majority", "classical", "probe", "scratch")
    assert climbed(num_train=20_000) == ("majority", "probe", "finetune")
    assert climbed(median_side_px=28, num_train=20_000)[-2:] == ("finetune", "scratch")
    assert climbed(num_train=5_000, effort="quick") == ("majority", "probe")


def test_a_quick_run_looks_at_small_pictures_by_hand_too_where_they_are_few() -> None:
    assert climbed(median_side_px=8, effort="quick") == ("majority", "classical", "probe")
    assert climbed(median_side_px=8, effort="quick", num_train=20_000) == ("majority", "probe")


def test_what_cannot_end_in_time_is_not_begun() -> None:
    assert climbed(seconds_left=4.0) == ("majority",)
    assert climbed(seconds_left=4.0, exporting_seconds=2.0) == ("majority", "probe")
    assert climbed(seconds_left=4.0, graph_cached=True) == ("majority", "probe")


def test_features_made_by_hand_stand_in_where_pretrained_ones_would_take_too_long() -> None:
    assert climbed(num_train=100, seconds_left=5.0, graph_cached=True) == ("majority", "probe")
    assert climbed(num_train=100, seconds_left=5.0) == ("majority", "classical")


def test_what_is_left_out_for_lack_of_time_is_marked() -> None:
    short = {rung.method for rung in plan(dataclasses.replace(FACTS, seconds_left=1.0)).rungs if rung.short_of_time}
    assert short == {"classical", "probe", "finetune", "scratch"}


def test_a_method_asked_for_by_name_is_run_alone_or_refused_with_the_reason() -> None:
    assert climbed(method="scratch") == ("majority", "scratch")
    assert climbed(method="finetune", effort="quick") == ("majority", "finetune")
    assert climbed(method="majority") == ("majority",)
    with pytest.raises(RecipeError, match=r"--method probe cannot be run: no weights here"):
        climbed(method="probe", weights=None, no_weights="no weights here")


@given(
    num_train=st.integers(2, 10**7),
    side=st.integers(8, 10_000),
    left=st.floats(-10, 10_000),
    effort=st.sampled_from(["quick", "balanced", "best"]),
    weights=st.sampled_from([None, "w"]),
    cached=st.booleans(),
    torch=st.booleans(),
)
def test_every_rung_is_climbed_or_left_out_with_a_reason(
    num_train: int, side: int, left: float, effort: str, weights: str | None, cached: bool, torch: bool
) -> None:
    facts = dataclasses.replace(
        FACTS,
        num_train=num_train,
        median_side_px=side,
        seconds_left=left,
        effort=effort,  # type: ignore[arg-type]
        weights=weights,
        no_weights="" if weights else "none at hand",
        graph_cached=cached,
        can_train_networks=torch,
    )
    chosen = plan(facts)
    assert [rung.method for rung in chosen.rungs] == ["majority", "classical", "probe", "finetune", "scratch"]
    assert all(rung.why for rung in chosen.rungs)
    assert chosen == plan(facts)
    assert chosen.climbed[0] == "majority"
