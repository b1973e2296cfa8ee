"""A parquet file of images as Hugging Face's `datasets` reads it.

Columns: `image` (PNG bytes and a path), `label`, `logits` where labels were learned, and `exact`, the float32 images
[C, H, W] as the network saw them, since PNGs are rounded. The schema's metadata name the features under `huggingface`,
and all that is needed to train on the images under `sdc`, both as JSON; of whitened images but for the transform, which
lies beside the file.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.own_exports import WHITENING
from sdc.export.source import ROUNDED, WHITENED, Export, Source, facts, labels, paths, pngs, save_whitening
from sdc.ground.files import replacing

ROWS = 100
"""Images in a row group: readers that show single images fetch a group at a time."""


def write(source: Source, out: Path) -> Export:
    """Write the set to the file `out`."""
    found = source.found
    beside = out.with_name(f"{out.name}.{WHITENING}")
    notes = [ROUNDED] + ([WHITENED.format(beside.name)] if found.view.whitening else [])
    described = {"huggingface": {"info": {"features": _features(found)}}, "sdc": facts(source) | {"notes": notes}}
    table = _table(found).replace_schema_metadata({name: json.dumps(value) for name, value in described.items()})
    with replacing(out) as partial, contextlib.ExitStack() as stack:
        pq.write_table(table, partial, row_group_size=ROWS)
        if found.view.whitening:
            save_whitening(found, stack.enter_context(replacing(beside)))
    lost = notes[1:]
    read = f'datasets.load_dataset("parquet", data_files={json.dumps(str(out))})'
    return Export("parquet", str(out), len(found.images), lost, read)


def _features(found: DistilledSet) -> dict[str, Any]:
    soft = {"logits": _nested(1)} if found.labels.is_floating_point() else {}
    return {
        "image": {"_type": "Image"},
        "label": {"names": list(found.view.classes), "_type": "ClassLabel"},
        **soft,
        "exact": _nested(3),
    }


def _nested(depth: int) -> dict[str, Any]:
    """Lists in lists of float32."""
    return {"feature": _nested(depth - 1), "_type": "Sequence"} if depth else {"dtype": "float32", "_type": "Value"}


def _table(found: DistilledSet) -> Any:  # noqa: ANN401 - pyarrow has no types
    encoded = [{"bytes": content, "path": path} for content, path in zip(pngs(found), paths(found), strict=True)]
    columns = {
        "image": pa.array(encoded, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "label": pa.array(labels(found), pa.int64()),
        **({"logits": _lists(found.labels)} if found.labels.is_floating_point() else {}),
        "exact": _lists(found.images),
    }
    return pa.table(columns)


def _lists(tensor: Tensor) -> Any:  # noqa: ANN401
    """A tensor as nested lists, a row an element of its first dimension."""
    made = pa.array(tensor.contiguous().numpy().reshape(-1))
    for size in reversed(tensor.shape[1:]):
        made = pa.ListArray.from_arrays(pa.array(np.arange(0, len(made) + 1, size, dtype=np.int32)), made)
    return made
