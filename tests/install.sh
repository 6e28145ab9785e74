#!/usr/bin/env bash
# The serving extra alone, in a fresh virtual environment: no torch, and `convd serve` answers.
# Usage: tests/install.sh PYTHON REPOSITORY IMAGE
set -euo pipefail
python=$1 repository=$2 image=$3
folder=$(mktemp -d)
trap 'kill %1 2>/dev/null || true; rm -rf "$folder"' EXIT

git clone --quiet . "$folder/source"  # pip leaves a build folder where it builds
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --constraint constraints.txt "$folder/source[serve]"
cd "$folder"
if "$folder/venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo 'the serving extra brought torch' >&2
  exit 1
fi
"$folder/venv/bin/convd" serve --repository "$repository" --grpc-port 18001 --http-port 18002 2>"$folder/log" &
for _ in $(seq 300); do
  "$python" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:18002/readyz')" 2>/dev/null && break
  sleep 0.1
done
"$python" -c "import urllib.request as r; assert b'convd console' in r.urlopen('http://127.0.0.1:18002/').read()"
"$folder/venv/bin/convd" classify "$image" --model digits --server 127.0.0.1:18001 --json --top-k 1
kill -TERM %1
wait %1
echo 'the serving extra serves without torch, and drains'
