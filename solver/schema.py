"""The name and version of the JSON that ``solve`` and ``check`` write."""

SCHEMA = "meshwright/1"
