"""Files that people write as YAML, TOML or JSON, by their ending: a table of keys and values, or a reason.

What a file says twice is refused, since only one of the two would count. Of YAML the plain part is read:
`true` and `false` are the only truths, numbers are decimal, times stay texts, and nothing refers to anything.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import click

__all__ = ["document_of", "read_document"]


def document_of(path: Path | str, option: str) -> dict[str, Any]:
    """The table in the file that an option names; wrong usage of that option when it cannot be read."""
    try:
        return read_document(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.BadParameter(f"{path} cannot be read: {reason}.", param_hint=option) from error


def read_document(path: Path | str) -> dict[str, Any]:
    """The table in that file. ValueError says what is wrong with it and where; OSError when it is away."""
    text = Path(path).read_text("utf-8")
    match Path(path).suffix.lower():
        case ".json":
            found = _json(text)
        case ".yaml" | ".yml":
            found = _yaml(text)
        case _:
            import tomllib

            found = tomllib.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is no table of keys and values")
    return found


def _json(text: str) -> Any:
    import json

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key!r} stands there twice")
            found[key] = value
        return found

    return json.loads(text, object_pairs_hook=table)


def _yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A safe loader of YAML's plain part."""

        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, "aliases are not read: write it out", mark
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            found: dict[Hashable, Any] = {}
            for named, value in node.value:
                key = self.construct_object(named, deep=True)
                if not isinstance(key, str):
                    raise yaml.constructor.ConstructorError(
                        None, None, "a key is no text: put it in quotes", named.start_mark
                    )
                if key in found:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} stands there twice", named.start_mark
                    )
                found[key] = self.construct_object(value, deep=True)
            return found

    # YAML 1.2's core, not 1.1: there `no` is false, 1:30 is ninety, and 010 is eight.
    whole = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
    number = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), list("tf"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:null|~|)$"), ["n", "~", ""])
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", whole, list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise ValueError(f"{getattr(error, 'problem', None) or error}{where}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
