#!/usr/bin/env bash
# Run the tests of this folder where vLLM is (`make test-vllm`); arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
# One thread: OpenMP's waiting threads spin, and on a busy machine each is many times slower than one (docs/benchmarks.md).
OMP_NUM_THREADS=1 exec .venv-vllm/bin/python -m pytest -c tests/vllm_cpu/pytest.ini --rootdir . --confcutdir tests/vllm_cpu \
  tests/vllm_cpu "$@"
