#!/bin/sh
# An environment in which the real Megatron answers on a CPU: setup.sh DIRECTORY [0.19.2|0.16.1]. Needs Python 3.11 or 3.12.
# The wheels declare Python 3.12, and run on 3.11 with one name of typing filled in (megatron/stand_ins.py).
# A generation without wheels is read from checkouts: record --source MEGATRON_LM --source MEGATRON_BRIDGE/src --commit ...
set -eu
here=$(cd "$(dirname "$0")" && pwd)
directory=$1
version=${2:-0.19.2}
"${PYTHON:-python3.11}" -m venv "$directory"
"$directory/bin/pip" install -r "$here/requirements-$version.txt"
"$directory/bin/pip" install --no-deps --ignore-requires-python -r "$here/requirements-$version-nodeps.txt"
echo "now: PYTHONPATH=. $directory/bin/python -m tests.conformance.record questions"
