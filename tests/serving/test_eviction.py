"""Which models leave memory: the policy alone, held to its promises by property tests."""

from hypothesis import given
from hypothesis import strategies as st

from fairlead.serving.residency import Rank, Resident, gone_idle, to_evict


@st.composite
def residents(draw) -> list[Resident]:
    count = draw(st.integers(0, 12))
    return [
        Resident(
            key=bytes([index]),
            bytes=draw(st.integers(0, 50)),
            used=float(draw(st.integers(0, 20))),
            rank=draw(st.sampled_from(Rank)),
            busy=draw(st.booleans()),
            idle=float(draw(st.integers(0, 10))),
        )
        for index in range(count)
    ]


def remaining(here: list[Resident], gone: list[bytes]) -> int:
    return sum(resident.bytes for resident in here if resident.key not in gone)


@given(residents(), st.integers(0, 200), st.integers(0, 60))
def test_nothing_that_is_asked_or_was_prepared_ever_leaves(here, budget, wanted):
    by_key = {resident.key: resident for resident in here}
    for key in to_evict(here, budget, wanted) + gone_idle(here, 100.0):
        assert not by_key[key].busy
        assert by_key[key].rank is not Rank.PREPARED


@given(residents(), st.integers(0, 200), st.integers(0, 60))
def test_what_is_left_fits_whenever_that_is_possible(here, budget, wanted):
    gone = to_evict(here, budget, wanted)
    fixed = sum(resident.bytes for resident in here if not resident.may_go)
    if fixed + wanted <= budget:
        assert remaining(here, gone) + wanted <= budget
    else:
        assert remaining(here, gone) == fixed


@given(residents(), st.integers(0, 200), st.integers(0, 60))
def test_no_more_leave_than_must(here, budget, wanted):
    gone = to_evict(here, budget, wanted)
    if gone:
        assert remaining(here, gone[:-1]) + wanted > budget


@given(residents(), st.integers(0, 200), st.integers(0, 60))
def test_the_lowest_rank_leaves_first_and_then_what_was_used_least_recently(here, budget, wanted):
    by_key = {resident.key: resident for resident in here}
    gone = [by_key[key] for key in to_evict(here, budget, wanted)]
    order = [(resident.rank, resident.used) for resident in gone]
    assert order == sorted(order)
    if gone:
        for resident in here:
            if resident.may_go and resident.bytes and resident not in gone:
                assert (resident.rank, resident.used) >= order[-1]


@given(residents(), st.integers(0, 40))
def test_only_what_has_an_idle_time_and_outlived_it_is_idle(here, now):
    gone = gone_idle(here, float(now))
    for resident in here:
        expected = resident.may_go and resident.idle > 0 and now - resident.used > resident.idle
        assert (resident.key in gone) == expected


def test_a_rollback_target_outlives_what_nobody_names_and_dies_before_what_has_traffic():
    here = [
        Resident(b"weighted", 10, used=1.0, rank=Rank.WEIGHTED),
        Resident(b"weightless", 10, used=2.0, rank=Rank.WEIGHTLESS),
        Resident(b"kept", 10, used=3.0, rank=Rank.KEPT),
        Resident(b"unnamed", 10, used=4.0, rank=Rank.UNNAMED),
    ]
    assert to_evict(here, 0) == [b"unnamed", b"kept", b"weightless", b"weighted"]
    assert to_evict(here, 30) == [b"unnamed"]
