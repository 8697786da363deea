"""Which bins hold for a contract now, and those that once did: small files beside the log."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow as pa

from fairlead.predictions.binning import Binning, ContractNote, binning_of
from fairlead.predictions.first_rows import reference_of_rows
from fairlead.predictions.parquet import folder_of
from fairlead.predictions.record import SchemaFrame
from fairlead.predictions.seen import NOT_COUNTABLE
from fairlead.stores.files import write_whole

__all__ = ["BinningStore"]

logger = logging.getLogger(__name__)

_ENOUGH_ROWS = 1_000
"""Bins of fewer rows are only held until there are more."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_Stamp = tuple[int, int, int]


class BinningStore:
    """The bins of one data folder's contracts; any thread may ask.

    The agent puts a `ContractNote` of each contract into `bins/<model>/`. Bins under which something was
    counted are kept in `predictions/bins/<model>/`: `<id>.json` for as long as counts may lie on them, and
    `<contract id>.json` where the log's first rows gave them.
    """

    def __init__(self, data_folder: Path) -> None:
        self._notes = data_folder / "bins"
        self._kept = data_folder / "predictions" / "bins"
        self._read: dict[Path, tuple[_Stamp, ContractNote | None]] = {}
        self._made: dict[tuple[str, str, _Stamp | None], Binning] = {}
        self._by_id: dict[tuple[str, str], Binning] = {}
        self._passing: dict[tuple[str, str], Binning] = {}
        self._came: Counter[tuple[str, str]] = Counter()
        self._outgrown: set[tuple[str, str]] = set()

    def current(
        self,
        model: str,
        schema: SchemaFrame | None,
        table: pa.Table,
        *,
        keep: bool = True,
        anew: bool = False,
    ) -> Binning | None:
        """The bins on which rows under that contract are counted; `table` holds some of those rows.

        They are those of the contract's reference, else those that were made of earlier rows, else they are
        made of these, and kept if `keep` says so. `anew` makes them of these even if there are earlier ones.
        None when the contract is not known. Raises OSError when they cannot be kept.
        """
        if schema is None or not _PLAIN_ID.fullmatch(schema.contract_id):
            return None
        path = self._notes / folder_of(model) / f"{schema.contract_id}.json"
        stamp, note = self._note(path)
        if stamp is None or note is None or note.reference is None:
            return self._of_rows(model, schema, note, table, keep, anew)
        made = self._made.get((model, schema.contract_id, stamp))
        if made is None:
            made = binning_of(
                schema.contract_id,
                note.reference,
                classes=note.contract.output.classes,
                fields=note.contract.inputs,
                origin=note.version,
            )
            self._by_id[model, made.id] = made
            if keep:
                self._keep(model, made)
                self._made[model, schema.contract_id, stamp] = made
        return made

    def outgrown(self) -> set[str]:
        """The models with bins that were made of few rows, now that there are enough for better ones: their
        profiles are worth making anew. Each contract is named once."""
        found = set()
        for (model, contract_id), came in list(self._came.items()):
            held = self._made.get((model, contract_id, None))
            few = held is not None and held.rows < _ENOUGH_ROWS
            if came >= _ENOUGH_ROWS and few and (model, contract_id) not in self._outgrown:
                self._outgrown.add((model, contract_id))
                found.add(model)
        return found

    def of_id(self, model: str, identifier: str) -> Binning | None:
        """The bins of that id, of now or of once; None when there are none."""
        found = self._by_id.get((model, identifier))
        for (whose, _), passing in list(self._passing.items()):
            if found is None and whose == model and passing.id == identifier:
                found = passing
        if found is None and _PLAIN_ID.fullmatch(identifier):
            found = _binning(self._kept / folder_of(model) / f"{identifier}.json")
            if found is not None:
                self._by_id[model, identifier] = found
        return found

    def _of_rows(
        self,
        model: str,
        schema: SchemaFrame,
        note: ContractNote | None,
        table: pa.Table,
        keep: bool,
        anew: bool,
    ) -> Binning | None:
        key = (model, schema.contract_id, None)
        if keep and not anew:
            self._came[model, schema.contract_id] += table.num_rows
        path = self._kept / folder_of(model) / f"{schema.contract_id}.json"
        held = None if anew else self._made.get(key) or _binning(path)
        if held is not None:
            self._made[key] = self._by_id[model, held.id] = held
        if held is None:
            try:
                contract = note.contract if note is not None else None
                reference, classes, fields = reference_of_rows(table, schema, contract)
            except NOT_COUNTABLE:
                logger.exception("no bins can be made of the rows under contract %s", schema.contract_id)
                return None
            held = binning_of(schema.contract_id, reference, classes=classes, fields=fields)
            if keep:
                self._keep(model, held)
                write_whole(path, msgspec.json.encode(held))
                self._made[key] = held
            else:
                self._passing[model, schema.contract_id] = held
        return held

    def _keep(self, model: str, binning: Binning) -> None:
        folder = self._kept / folder_of(model)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{binning.id}.json", msgspec.json.encode(binning))
        self._by_id[model, binning.id] = binning

    def _note(self, path: Path) -> tuple[_Stamp | None, ContractNote | None]:
        try:
            about = path.stat()
            stamp = (about.st_ino, about.st_mtime_ns, about.st_size)
            held = self._read.get(path)
            if held is None or held[0] != stamp:
                self._read[path] = held = (stamp, _decode_note(path.read_bytes()))
        except FileNotFoundError:
            return None, None
        except (msgspec.MsgspecError, OSError) as error:
            logger.error("%s is damaged and is not used: %s", path, error)
            return None, None
        return held


_decode_note = msgspec.json.Decoder(ContractNote).decode


def _binning(path: Path) -> Binning | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Binning)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        logger.error("%s is damaged and is made anew: %s", path, error)
        return None
