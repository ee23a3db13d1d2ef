# Sourced from the repository's root: sets `clients`, the environment of other people's Python clients, and
# `credentials`, those of the running stack that RAYMART_CREDENTIALS names or of one that is started here and stopped
# with the script.
uv=${UV:-uv}
clients=.venv-acceptance
[ -x $clients/bin/python ] || "$uv" venv --quiet --python .venv/bin/python $clients
"$uv" pip install --quiet --python $clients/bin/python -r tests/acceptance/requirements.txt

credentials=${RAYMART_CREDENTIALS:-}
if [ -z "$credentials" ]; then
  export RAYMART_DATA_DIR=var/acceptance
  RAYMART_PORT=$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  export RAYMART_PORT
  rm -rf "$RAYMART_DATA_DIR"
  mkdir -p "$RAYMART_DATA_DIR"
  .venv/bin/raymart up > "$RAYMART_DATA_DIR/up.out" 2>&1 &
  stack=$!
  trap 'kill -INT $stack 2>/dev/null; wait $stack 2>/dev/null || true' EXIT
  for _ in $(seq 400); do
    kill -0 $stack 2>/dev/null || { cat "$RAYMART_DATA_DIR/up.out" >&2; exit 1; }
    .venv/bin/python - "$RAYMART_PORT" <<'PY' && break
import sys, urllib.request
try:
    sys.exit(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/ready", timeout=2).status != 200)
except OSError:
    sys.exit(1)
PY
    sleep 1
  done
  credentials=$RAYMART_DATA_DIR/credentials.json
fi
