from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fairlead.runtimes.binding import Prediction
from fairlead.serving.cache import PredictionCache, cache_secret

ONE = Prediction(1, [0.5, 0.5])


def test_an_entry_lives_for_its_lifetime_and_no_longer():
    cache = PredictionCache(10_000)
    cache.put(b"k", ONE, now=100.0, lifetime=5.0)
    assert cache.get(b"k", 104.9) == ONE
    assert cache.get(b"k", 105.0) is None


def test_an_entry_past_its_lifetime_may_stand_in_for_a_while():
    cache = PredictionCache(10_000)
    cache.put(b"k", ONE, now=100.0, lifetime=5.0)
    assert cache.stale(b"k", 114.9, seconds=10.0) == ONE
    assert cache.stale(b"k", 115.0, seconds=10.0) is None
    assert cache.get(b"k", 106.0) is None


def test_the_longest_unused_entry_makes_room():
    cache = PredictionCache(1_000)
    for key in (b"a", b"b", b"c"):
        cache.put(key, Prediction(1), 0.0, 60.0)
    cache.get(b"a", 1.0)
    cache.put(b"d", Prediction(1), 1.0, 60.0)
    cache.put(b"e", Prediction(1), 1.0, 60.0)
    assert cache.get(b"a", 1.0) is not None
    assert cache.get(b"b", 1.0) is None


def test_an_entry_larger_than_the_cache_is_not_kept():
    cache = PredictionCache(1_000)
    cache.put(b"k", Prediction([1.0] * 10_000), 0.0, 60.0)
    assert len(cache) == 0


def test_a_cache_of_no_bytes_keeps_nothing():
    cache = PredictionCache(0)
    cache.put(b"k", ONE, 0.0, 60.0)
    assert cache.get(b"k", 0.0) is None


def test_a_key_depends_on_artifact_contract_inputs_and_deployment():
    secret = cache_secret(b"s" * 32, "digest", "contract")
    others = [
        cache_secret(b"t" * 32, "digest", "contract"),
        cache_secret(b"s" * 32, "other", "contract"),
        cache_secret(b"s" * 32, "digest", "other"),
    ]
    keys = {PredictionCache.key(each, b"row") for each in [secret, *others]}
    keys.add(PredictionCache.key(secret, b"another row"))
    assert len(keys) == 5
    assert PredictionCache.key(secret, b"row") in keys


@given(st.text(), st.text(), st.text(), st.text())
def test_digest_and_contract_never_run_together(a, b, c, d):
    if (a, b) != (c, d) and "\0" not in a + b + c + d:
        same = cache_secret(b"s", a, b) == cache_secret(b"s", c, d)
        assert not same


class CacheLaws(RuleBasedStateMachine):
    """The cache stays within its bound and never gives what was not put or is stale."""

    def __init__(self):
        super().__init__()
        self.cache = PredictionCache(2_000)
        self.model = {}
        self.now = 0.0

    @rule(key=st.integers(0, 9), value=st.integers(0, 5), lifetime=st.floats(0.5, 20))
    def put(self, key, value, lifetime):
        self.cache.put(bytes([key]), Prediction(value), self.now, lifetime)
        self.model[key] = (value, self.now + lifetime)

    @rule(key=st.integers(0, 9))
    def get(self, key):
        found = self.cache.get(bytes([key]), self.now)
        if found is not None:
            value, until = self.model[key]
            assert found.value == value
            assert self.now < until

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def bounded(self):
        assert 0 <= self.cache.size_bytes <= 2_000
        assert (len(self.cache) == 0) == (self.cache.size_bytes == 0)


TestCacheLaws = CacheLaws.TestCase
