"""The command line: parse, call, print. Nothing here decides anything about a layout."""
