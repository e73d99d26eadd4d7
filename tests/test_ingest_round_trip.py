"""What comes in goes out: any record of any format, through a row and back."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels.reading.columns import RowBuilder
from tasks.kernels.reading.formats import FormatReader
from tasks.kernels.reading.records import Read
from tasks.kernels.records.odd import json_safe
from tasks.kernels.records.restore import restore
from tasks.kernels.records.shape import Conversation
from tests.records import RECORDS, same, shuffled


def round_trip(records, record_format):
    builder = RowBuilder("s", FormatReader(record_format, {}), {}, {})
    for record in records:
        builder.add(Read(1, json_safe(record), None, True))
    unread = builder.unread()
    assert unread.is_empty(), unread.to_dicts()
    return [restore(Conversation.of_row(row), Counter()) for row in builder.rows().iter_rows(named=True)]


@pytest.mark.parametrize("record_format", list(RECORDS))
def test_any_record_comes_out_as_it_went_in(record_format):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(shuffled(RECORDS[record_format]), min_size=1, max_size=6))
    def check(records):
        for record, restored in zip(records, round_trip(records, record_format), strict=True):
            assert same(restored, record)

    check()
