#!/usr/bin/env bash
# The contract of the development chain, against surfpool too. Skipped, with the reason, where that cannot run.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/surfpool
skip() { echo "test-surfpool: skipped: $1"; exit 0; }
command -v node >/dev/null || skip "there is no Node here (18 or newer)"
command -v npm >/dev/null || skip "there is no npm here"
[ "$(node -p 'Number(process.versions.node.split(".")[0])')" -ge 18 ] || skip "Node $(node --version) is older than 18"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "surfpool's package is for Linux on x86_64, and this is $(uname -sm)"
# The lock names no registry: whatever npm is set up with serves the package, and its hash is checked.
if ! cmp -s $here/package-lock.json $here/node_modules/.lock-of-install; then
  (cd $here && npm ci --no-audit --no-fund --loglevel=error)
  cp $here/package-lock.json $here/node_modules/.lock-of-install
fi
exec .venv/bin/pytest -n 0 -m "slow or not slow" tests/billing/solana/test_contract.py -v
