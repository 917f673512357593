"""Records in a buffer, sound and damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.backends.journal.frames import MAGIC, count_rows, encode, scan

A, B, C = encode(b'{"a":1}', 1), encode(b'{"b":2},{"b":3}', 2), encode(b'{"c":4}', 1)
ALL = 1 << 30


def payloads(buffer: bytes, *, whole: bool = True, max_rows: int = ALL) -> list[bytes]:
    return [span.payload for span in scan(buffer, max_rows=max_rows, whole=whole).spans]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.integers(1, 0xFFFF)), max_size=20))
def test_what_is_encoded_is_scanned(records: list[tuple[bytes, int]]) -> None:
    buffer = b"".join(encode(payload, rows) for payload, rows in records)
    found = scan(buffer, max_rows=ALL, whole=True)
    assert [(span.payload, span.rows) for span in found.spans] == records
    assert found.end == len(buffer)
    assert found.damaged == 0
    assert count_rows(buffer) == (sum(rows for _, rows in records), len(buffer))


@pytest.mark.parametrize(
    ("payload", "rows"), [(b"", 1), (b"{}", 0), (b"{}", 0x10000), (b"x" * (16 * 1024 * 1024 + 1), 1)]
)
def test_what_cannot_be_a_record_is_refused(payload: bytes, rows: int) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        encode(payload, rows)


def test_a_scan_stops_at_the_wanted_number_of_rows() -> None:
    found = scan(A + B + C, max_rows=2, whole=True)
    assert [span.rows for span in found.spans] == [1, 2]
    assert found.end == len(A + B)


@given(st.integers(1, len(C) - 1))
def test_a_torn_tail_is_left_for_later_in_a_growing_file(cut: int) -> None:
    found = scan(A + B + C[:cut], max_rows=ALL, whole=False)
    assert len(found.spans) == 2
    assert found.end == len(A + B)
    assert found.damaged == 0


@given(st.integers(1, len(C) - 1))
def test_a_torn_tail_of_a_dead_file_was_never_acknowledged_and_is_no_damage(cut: int) -> None:
    found = scan(A + B + C[:cut], max_rows=ALL, whole=True)
    assert len(found.spans) == 2
    assert found.end == len(A + B) + cut
    assert found.damaged == 0


@given(st.data())
def test_one_changed_byte_costs_only_its_own_record(data: st.DataObject) -> None:
    offset = data.draw(st.integers(len(A), len(A + B) - 1))
    damaged = bytearray(A + B + C)
    damaged[offset] ^= data.draw(st.integers(1, 255))
    found = scan(bytes(damaged), max_rows=ALL, whole=True)
    assert [span.payload for span in found.spans] == [b'{"a":1}', b'{"c":4}']
    assert found.damaged == 1


@given(st.integers(len(A), len(A + B) - 1))
def test_a_cut_out_piece_costs_only_its_own_record(start: int) -> None:
    assert payloads(A + (A + B)[start + 1 :] + C)[-1] == b'{"c":4}'


def test_a_damaged_end_is_damage() -> None:
    found = scan(A + C[:-1] + b"?", max_rows=ALL, whole=True)
    assert len(found.spans) == 1
    assert found.damaged == 1


def test_a_record_inside_a_payload_is_not_taken_for_one() -> None:
    """No UTF-8 text holds the magic bytes, so a client cannot plant a record behind damage."""
    with pytest.raises(UnicodeDecodeError):
        MAGIC.decode()
    forged = C.decode("latin-1").encode()
    host = bytearray(encode(b'"' + forged + b'"', 1))
    host[4] ^= 0xFF
    assert payloads(bytes(host) + A) == [b'{"a":1}']


@given(st.binary(max_size=200))
def test_any_bytes_can_be_scanned(noise: bytes) -> None:
    found = scan(noise + A, max_rows=ALL, whole=True)
    assert found.end <= len(noise + A)
    assert count_rows(noise)[1] <= len(noise)
