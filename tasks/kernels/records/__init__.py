"""A record and its row: what the row schema has no column for is kept, so that the record can be written again."""
