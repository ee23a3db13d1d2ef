#!/usr/bin/env bash
# Promise 12: start an API with something to sell, and send it what schemathesis makes of its OpenAPI and GraphQL schemas.
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=${UV:-uv}
tools=.venv-fuzz
[ -x $tools/bin/python ] || "$uv" venv --quiet --python .venv/bin/python $tools
"$uv" pip install --quiet --python $tools/bin/python -r tests/fuzz/requirements.txt

folder=$(mktemp -d)
.venv/bin/python tests/fuzz/serve.py "$folder" &
api=$!
trap 'kill -INT $api 2>/dev/null || true; wait $api 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 480); do
  [ -s "$folder/ready.json" ] && break
  kill -0 $api 2>/dev/null || exit 1
  sleep 0.5
done
[ -s "$folder/ready.json" ] || { echo "the API was not ready within 240 s" >&2; exit 1; }
status=0
$tools/bin/python tests/fuzz/cases.py "$folder/ready.json" "${CASES:-10000}" || status=1
kill -INT $api
wait $api || status=1
exit $status
