"""Any source into one row schema, losslessly."""
