"""Files and data sets into rows: streams to records, records to conversations, conversations to columns.

`ingest` reads sources with it; `read_rows` in `rows_of_file.py` is the short way for a stage that needs one small file.
"""
