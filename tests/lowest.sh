#!/bin/sh
# Run the tests with the lowest versions that pyproject.toml allows, in a fresh environment:
#
#     tests/lowest.sh FOLDER [arguments of pytest]
#
# The environment is made in FOLDER, without the extra `clients`: those libraries need newer versions
# of LangChain than the package does. Lint and types are left to the newest versions, and old versions
# may use what their own dependencies have deprecated since.
set -eu
[ $# -gt 0 ] || { echo "usage: tests/lowest.sh FOLDER [arguments of pytest]" >&2; exit 2; }
"${PYTHON:-python3.11}" -m venv --clear "$1"
python=$(cd "$1" && pwd)/bin/python
shift
cd "$(dirname "$0")/.."
"$python" -m pip install --quiet --editable ".[tests,ray]" --constraint tests/lowest.txt
exec "$python" -m pytest --ignore tests/test_lint.py -W default::DeprecationWarning "$@"
