"""Read what a run directory says about its prepared data: `data.json`, `manifest.json` and `samples.json`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ctxkit_report.prepared import Bin, Prepared, Sample, Segment, Share, Source, Split
from ctxkit_report.reading import count, counts, dicts, mapping, real, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 4
"""The manifest that this module knows."""


@dataclass(frozen=True)
class Look:
    """All that a look at prepared data is made from."""

    name: str
    sets: tuple[Prepared, ...]
    problems: tuple[str, ...]
    """Files that are broken, or named and not there, each with the reason."""


def look(run_dir: Path) -> Look:
    """Read the data sets that `data.json` names with their samples; where it names none, every one that is there."""
    problems: list[str] = []
    name = text(mapping(run_dir / "run.json", problems).get("name")) or run_dir.resolve().name
    named = stage_keys(run_dir, problems)
    keys = list(dict.fromkeys(named.values())) or [path.parent.name for path in manifests(run_dir)]
    sets = [read_set(run_dir / "data" / key, named, problems) for key in keys]
    shown = tuple(replace(item, samples=_samples(run_dir / "data" / item.key, problems)) for item in sets if item)
    return Look(name, shown, tuple(problems))


def manifests(run_dir: Path) -> list[Path]:
    """Return the manifest of every data set that is there."""
    return sorted(run_dir.glob("data/*/manifest.json"))


def stage_keys(run_dir: Path, problems: list[str]) -> dict[str, str]:
    """Return stage name to folder name, as `data.json` has it; a name that leads out of `data/` is a problem."""
    stages = mapping(run_dir / "data.json", problems).get("stages")
    found: dict[str, str] = {}
    for stage, key in stages.items() if isinstance(stages, dict) else ():
        if _is_name(key):
            found[stage] = key
        else:
            problems.append(f"data.json: stage {stage}: not the name of a folder")
    return found


def read_set(folder: Path, stages: Mapping[str, str], problems: list[str]) -> Prepared | None:
    """Return a data set without its samples, or None where it has no readable manifest.

    Args:
        folder: Where it lies; its name is the key.
        stages: Stage name to key.
        problems: Takes a line for what is broken or missing.
    """
    path = folder / "manifest.json"
    if not path.exists():
        problems.append(f"data/{folder.name}/manifest.json: missing; prepare the data again")
        return None
    manifest = mapping(path, problems)
    if not manifest:
        return None
    if manifest.get("format") != FORMAT:
        problems.append(f"data/{folder.name}/manifest.json: not of format {FORMAT}; prepare the data again")
    return Prepared(
        key=folder.name,
        stages=tuple(stage for stage, key in stages.items() if key == folder.name),
        window=count(manifest.get("length")),
        vocabulary=count(_object(manifest.get("tokenizer")).get("vocab_size")),
        chunker=text(manifest.get("chunker")),
        packing=_packing(manifest.get("packing")),
        train=_split(manifest.get("train")),
        evaluation=_split(manifest.get("eval")),
        sources=_sources(manifest.get("sources")),
        mix=_mix(manifest.get("mix")),
    )


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isprintable() and key not in {"", ".", ".."} and PurePath(key).name == key


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _packing(value: object) -> str:
    packing = _object(value)
    strategy = text(packing.get("strategy"))
    mask = {True: ", attention within documents", False: ", attention across documents"}
    known = packing.get("document_mask")
    return f"{strategy}{mask[known] if isinstance(known, bool) else ''}" if strategy else ""


def _split(value: object) -> Split | None:
    item = _object(value)
    if not item:
        return None
    return Split(
        rows=count(item.get("rows")),
        chunks=count(item.get("chunks")),
        tokens=count(item.get("tokens")),
        trained=count(item.get("tokens_trained")),
        masked=count(item.get("tokens_masked")),
        longest=count(item.get("longest")),
        efficiency=_share(item.get("efficiency")),
        lengths=_bins(item.get("lengths")),
        longer_than=_shares(item.get("longer_than")),
        difficulty=counts(item.get("difficulty")),
    )


def _share(value: object) -> float | None:
    number = real(value)
    return number if number is not None and 0 <= number <= 1 else None


def _shares(value: object) -> dict[float, float]:
    found: dict[float, float] = {}
    for key, item in _object(value).items():
        try:
            part = float(key)
        except ValueError:
            continue
        share = _share(item)
        if share is not None and 0 < part <= 1:
            found[part] = share
    return dict(sorted(found.items()))


def _bins(value: object) -> tuple[Bin, ...]:
    found = []
    for item in dicts(value):
        least, most, number = (count(item.get(name)) for name in ("least", "most", "count"))
        if least is not None and number:
            found.append(Bin(least, least if most is None else most, number, count(item.get("tokens")) or 0))
    return tuple(sorted(found, key=lambda item: item.least))


def _sources(value: object) -> tuple[Source, ...]:
    items = list(dicts(value))
    kinds = [text(item.get("kind")) or "unnamed" for item in items]
    often = Counter(kinds)
    return tuple(
        _source(item, kind, f"{kind} ({place})" if often[kind] > 1 else kind)
        for place, (item, kind) in enumerate(zip(items, kinds, strict=True), start=1)
    )


def _source(item: Mapping[str, Any], kind: str, label: str) -> Source:
    return Source(
        kind=kind,
        label=label,
        documents_read=count(item.get("documents_read")),
        documents=count(item.get("documents")),
        skipped=counts(item.get("skipped")),
        filtered=counts(item.get("filtered_documents")),
        dropped_documents=counts(item.get("dropped_documents")),
        documents_cut=count(item.get("documents_cut")),
        special_token_texts=count(item.get("special_token_texts")),
        chunks=count(item.get("chunks")),
        read=count(item.get("tokens_read")),
        dropped=counts(item.get("dropped")),
        unused=count(item.get("tokens_unused")),
        evaluation=count(item.get("tokens_eval")),
        kept=count(item.get("tokens_kept")),
        repeated=count(item.get("tokens_repeated")),
        inserted=count(item.get("tokens_inserted")),
        trained=count(item.get("tokens_trained")),
        masked=count(item.get("tokens_masked")),
        lengths=_bins(item.get("document_lengths")),
    )


def _mix(value: object) -> tuple[Share, ...]:
    item = _object(value)
    if not item:
        return ()
    together = {**item, "name": "all together", "share": 1.0}
    return tuple(_part(part) for part in (together, *dicts(item.get("sources")), *dicts(item.get("length_bands"))))


def _part(item: Mapping[str, Any]) -> Share:
    return Share(
        name=text(item.get("name")) or "unnamed",
        asked_tokens=count(item.get("asked_tokens")),
        asked_share=_share(item.get("asked_share")),
        tokens=count(item.get("tokens")),
        share=_share(item.get("share")),
        why=text(item.get("why")),
    )


def _samples(folder: Path, problems: list[str]) -> tuple[Sample, ...]:
    return tuple(_sample(item) for item in dicts(mapping(folder / "samples.json", problems).get("samples")))


def _sample(item: Mapping[str, Any]) -> Sample:
    return Sample(
        split=text(item.get("split")),
        row=count(item.get("row")),
        tokens=count(item.get("tokens")),
        source=text(item.get("source")),
        difficulty=text(item.get("difficulty")),
        segments=tuple(_segment(segment) for segment in dicts(item.get("segments"))),
    )


def _segment(item: Mapping[str, Any]) -> Segment:
    return Segment(
        inserted=item.get("kind") == "inserted",
        document=text(item.get("document")),
        start=count(item.get("start")),
        end=count(item.get("end")),
        masked=item.get("masked") is True,
        boundary=item.get("boundary") is True,
        tokens=count(item.get("tokens")),
        text=text(item.get("text")),
        omitted=count(item.get("omitted")) or 0,
        tail=text(item.get("tail")),
    )
