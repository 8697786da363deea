"""An alias means one version at a time, and its moves are never forgotten."""

from __future__ import annotations

import pytest

from fairlead.errors import AliasNotFound, InvalidName, ModelNotFound, VersionNotFound
from fairlead.registry.registry import Registry
from fairlead.stores.blobs import Blobs
from tests.registry.samples import new_version


def test_a_reference_is_a_version_or_an_alias(three: Registry) -> None:
    three.set_alias("churn", "champion", "2", who="ada")
    assert three.resolve("churn", "champion") == "2"
    assert three.resolve("churn", "3") == "3"


def test_a_reference_to_nothing_names_the_nearest(three: Registry) -> None:
    three.set_alias("churn", "champion", "2", who="ada")
    with pytest.raises(VersionNotFound, match="Did you mean 'champion'"):
        three.resolve("churn", "champoin")
    with pytest.raises(ModelNotFound):
        three.resolve("nothing", "1")


def test_an_alias_moves_and_every_move_is_kept(three: Registry) -> None:
    three.set_alias("churn", "champion", "1", who="ada", why="first")
    three.set_alias("churn", "champion", "2", who="bob", why="better")
    three.set_alias("churn", "challenger", "3", who="bob", why="new")
    three.set_alias("churn", "champion", None, who="eve", why="gone")
    assert three.aliases("churn") == {"challenger": "3"}
    moves = three.alias_history("churn", "champion")
    assert [(move.version, move.who, move.why) for move in moves] == [
        ("1", "ada", "first"),
        ("2", "bob", "better"),
        (None, "eve", "gone"),
    ]
    assert [move.at for move in moves] == sorted(move.at for move in moves)
    assert len(three.alias_history("churn")) == 4


def test_an_alias_that_was_taken_away_can_come_back(three: Registry) -> None:
    for version in ("1", None, "2"):
        three.set_alias("churn", "champion", version, who="ada")
    assert three.aliases("churn") == {"champion": "2"}


def test_moving_an_alias_to_where_it_is_is_no_move(three: Registry) -> None:
    three.set_alias("churn", "champion", "1", who="ada")
    entries = three.audit()
    three.set_alias("churn", "champion", "1", who="bob")
    assert len(three.alias_history("churn")) == 1
    assert three.audit() == entries


def test_aliases_of_models_do_not_mix(three: Registry, blobs: Blobs) -> None:
    three.register(new_version("1", model="basket", blobs=blobs))
    three.set_alias("basket", "champion", "1", who="ada")
    three.set_alias("churn", "champion", "3", who="ada")
    assert three.resolve("basket", "champion") == "1"
    assert three.resolve("churn", "champion") == "3"


def test_a_name_means_one_thing(three: Registry, blobs: Blobs) -> None:
    with pytest.raises(InvalidName, match="a version named '2'"):
        three.set_alias("churn", "2", "1", who="ada")
    three.set_alias("churn", "champion", "1", who="ada")
    with pytest.raises(InvalidName, match="an alias named 'champion'"):
        three.register(new_version("champion", blobs=blobs))
    assert three.model("churn").versions == ("1", "2", "3")


def test_what_is_not_there_cannot_be_pointed_at_or_taken_away(three: Registry) -> None:
    with pytest.raises(VersionNotFound):
        three.set_alias("churn", "champion", "9", who="ada")
    with pytest.raises(AliasNotFound, match="champion"):
        three.set_alias("churn", "champion", None, who="ada")
    with pytest.raises(InvalidName):
        three.set_alias("churn", "the best", "1", who="ada")
    assert three.aliases("churn") == {}
