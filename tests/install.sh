#!/usr/bin/env bash
# What a user gets: the wheel and the sdist, each in a fresh virtual environment, used from a project
# whose own packages have the names of convd's folders.
# Usage: tests/install.sh [PYTHON of an environment with torch, by default .venv/bin/python]
set -euo pipefail
python=$(realpath --no-symlinks "${1:-.venv/bin/python}")
constraints=$PWD/constraints.txt
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT

say() { echo "== $*" >&2; }

say 'build the sdist from the clone, and a wheel from each'
git clone --quiet . "$folder/source" # building leaves files behind
(cd "$folder/source" && "$python" -c "
from setuptools.build_meta import build_sdist
build_sdist('$folder/sdist')" >"$folder/log" 2>&1) || { cat "$folder/log"; exit 1; }
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/from-clone" "$folder/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/from-sdist" "$folder"/sdist/*.tar.gz
contents() { "$python" -m zipfile --list "$1" | awk 'NR > 1 { print $1, $NF }' | grep -v 'dist-info/RECORD'; }
diff <(contents "$folder"/from-clone/*.whl) <(contents "$folder"/from-sdist/*.whl)
wheel=$(echo "$folder"/from-clone/*.whl)

say 'an installation adds one name'
names() { "$1" -I -c 'import pkgutil; print(*sorted(module.name for module in pkgutil.iter_modules()))'; }
for source in "$wheel" "$folder"/sdist/*.tar.gz; do
  rm -rf "$folder/bare"
  "$python" -m venv "$folder/bare"
  before=$(names "$folder/bare/bin/python")
  "$folder/bare/bin/pip" install --quiet --no-deps "$source"
  after=$(names "$folder/bare/bin/python")
  added=$(comm -13 <(tr ' ' '\n' <<<"$before") <(tr ' ' '\n' <<<"$after"))
  [ "$added" = convd ] || { echo "$source adds: $added" >&2; exit 1; }
done

# Torch comes from the environment of development, convd from the wheel.
site=$("$folder/bare/bin/python" -c 'import site; print(site.getsitepackages()[0])')
"$python" -c 'import sys; print(*(path for path in sys.path if path.endswith("site-packages")), sep="\n")' >"$site/dependencies.pth"

say 'the serving extra brings no torch'
"$python" -m venv "$folder/serving"
"$folder/serving/bin/pip" install --quiet --constraint "$constraints" "${wheel}[serve]"
! "$folder/serving/bin/python" -c 'import torch' 2>/dev/null

# A project in which every folder of convd's has a namesake that must not be imported.
mkdir "$folder/project"
cd "$folder/project"
for name in artifact bench client commands export models protos runtime service; do
  mkdir "$name"
  echo "raise ImportError('this is the $name of the user, not of convd')" >"$name/__init__.py"
done
"$python" -c "
from sklearn.datasets import load_digits
from PIL import Image
Image.fromarray((load_digits().images[3] * 15.9).astype('uint8')).save('digit.png')"

for path in '' .; do
  say "train, export, serve and classify with PYTHONPATH='$path'"
  if [ -n "$path" ]; then export PYTHONPATH=$path; else unset PYTHONPATH; fi
  rm -rf run repository
  "$folder/bare/bin/convd" train lenet --data digits --epochs 2 --output run >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
  "$folder/bare/bin/convd" export run --name digits --repository repository >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
  "$folder/serving/bin/convd" verify repository/digits/1 >/dev/null
  "$folder/serving/bin/convd" serve --repository repository --grpc-port 0 --http-port 0 2>"$folder/server.log" &
  server=$!
  for _ in $(seq 300); do
    grep -q ' ready$' "$folder/server.log" && break
    kill -0 "$server" || { cat "$folder/server.log" >&2; exit 1; }
    sleep 0.1
  done
  port=$(sed -nE 's/.*gRPC on [^ ]*:([0-9]+);.*/\1/p' "$folder/server.log")
  "$folder/serving/bin/convd" classify digit.png --model digits --server "127.0.0.1:$port" --json --top-k 1
  "$folder/serving/bin/python" -m convd models --server "127.0.0.1:$port" | grep available >/dev/null
  "$folder/serving/bin/convd" bench --model digits --server "127.0.0.1:$port" --duration-seconds 1 |
    grep 'requests in .* OK$'
  kill -TERM "$server"
  wait "$server"
  server=
done
say 'installed, used among namesakes, and drained'
