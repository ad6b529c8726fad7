"""Closed segments: what is in a part comes back as it went in, for us and for other readers, or is found damaged."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from evosearch.search.files import LogError
from evosearch.search.store import Log, column_name
from tests.search.test_store import close, indices, result, row


def test_any_flipped_bit_of_a_part_is_found(tmp_path):
    """In the footer too, which Parquet's page checksums leave out: there one in a hundred read back as other scores."""
    with Log(tmp_path) as log:
        log.append([result(i) for i in range(40)])
        close(log)
    (part,) = (tmp_path / "results").iterdir()
    data = part.read_bytes()
    for position in range(0, len(data), 5):
        part.write_bytes(data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :])
        with pytest.raises(LogError, match=r"part-000000.parquet is damaged"):
            indices(tmp_path)


def test_the_pages_of_a_part_carry_checksums_for_other_readers(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(i) for i in range(400)])
        close(log)
    (part,) = (tmp_path / "results").iterdir()
    data = part.read_bytes()
    column = next(c for c in map(pq.read_metadata(part).row_group(0).column, range(99)) if c.path_in_schema.startswith("score_"))
    position = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2
    part.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(part, page_checksum_verification=True)


def test_a_part_is_sorted_typed_and_read_by_plain_pyarrow(tmp_path):
    with Log(tmp_path) as log:
        log.append([{"type": "result", "rows": [row(None, ask=5, attempt=1, status="duplicate", duplicate_of=2, scores={}), row(5, attempt=2)]}])
        log.append([result(4)])
        close(log)
    (part,) = (tmp_path / "results").iterdir()
    table = pq.read_table(part)
    assert part.name == "part-000000.parquet"
    assert table.column("ask").to_pylist() == [4, 5, 5]
    assert table.column("index").to_pylist() == [4, None, 5]
    assert table.column("duplicate_of").to_pylist() == [None, 2, None]
    assert table.column("score_full_textures_resnet_s1").to_pylist() == [4 / 7, None, 5 / 7]
    assert str(table.schema.field("index").type) == "int64"
    assert {"index", "candidate", "canonical_id", "proposer", "status", "reason", "stage"} <= set(table.column_names)
    assert all(name.isidentifier() for name in table.column_names)


def test_a_row_comes_back_from_a_part_as_it_went_in(tmp_path):
    tables = {"scores": {"full:photo.coffee/inr.48:0": 0.1, "quality:a/b-c:0": 1e300, "quality:a/b_c:0": -0.0}, "rates": {"full:a": 0.333}}
    with Log(tmp_path) as log:
        log.append([result(0, **tables)])
        (before,) = log.rows()
        close(log)
        (after,) = log.rows()
    assert after == before


def test_column_names_are_plain_sql():
    assert column_name("scores", "full:textures/resnet:1") == "score_full_textures_resnet_s1"
    assert column_name("rates", "full:photo.coffee/inr.48") == "rate_full_photo_coffee_inr_48"
    assert column_name("objectives", "saved_per_element") == "saved_per_element"
